#!/bin/sh
# A song for each line of stdin, as many at once as the accounts take, from plain curl.
#   USEAPI_TOKEN=… ./songs.sh < prompts.txt
# Scripts side by side share one count: `balancer exec` keeps it in SQLite, in the user's state folder. The slot
# is held for as long as the command runs: until the job is over, or for an hour at most.
set -eu
url="${USEAPI_BASE_URL:-https://api.useapi.net}/v1/flowmusic"

song='
    say() { printf "%s\n" "$1"; }
    ask() {
        curl --silent --output "$answer" --write-out "%{http_code}" --max-time 60 \
            --header "Authorization: Bearer $USEAPI_TOKEN" "$@"
    }
    # A field of the answer, empty if there is none; and the body of a request, any prompt quoted as JSON wants it.
    field() { python3 -c "import json, sys; print(json.load(open(sys.argv[1])).get(sys.argv[2]) or \"\")" \
        "$answer" "$1" 2>/dev/null || true; }
    body() { python3 -c "import json, sys; print(json.dumps(json.loads(sys.argv[1]) | {\"prompt\": sys.argv[2]}))" \
        "$BALANCER_PARAMS" "$1"; }

    answer=$(mktemp)
    trap "rm -f \"$answer\"" EXIT
    failed=0
    status=$(ask --header "Content-Type: application/json" --data "$(body "$1")" "$2/music") || failed=$?
    case $failed in
    0) ;;
    6 | 7) say "$1: not sent, curl failed with $failed" >&2; exit 1 ;;
    *) status=500 ;; # it may have been sent
    esac
    case $status in
    2*) job=$(field jobid) ;;
    5*) job="" ;;
    *) say "$1: refused with $status: $(field error)" >&2; exit 1 ;;
    esac
    if [ -z "$job" ]; then
        # The job may run, and be paid: it is not sent again, and its slot is not given to another one yet.
        say "$1: the answer was lost; look for it on $BALANCER_ACCOUNT before you send it again" >&2
        sleep "${KEEP_SLOT:-600}"
        exit 1
    fi
    end=$(($(date +%s) + ${GIVE_UP:-3600}))
    while [ "$(date +%s)" -lt "$end" ]; do
        sleep "${POLL_EVERY:-10}"
        # A question that fails ends no job; 404 says that there is none any more.
        case $(ask "$2/jobs/$job" || true) in
        200) state=$(field status) ;;
        404) state=gone ;;
        *) state="" ;;
        esac
        case $state in
        completed) say "$1: completed on $BALANCER_ACCOUNT"; exit 0 ;;
        failed | gone) say "$1: $state on $BALANCER_ACCOUNT"; exit 1 ;;
        esac
    done
    say "$1: job $job has not ended" >&2
    exit 1
'
while IFS= read -r prompt || [ -n "$prompt" ]; do
    [ -n "$prompt" ] || continue
    balancer exec --service flowmusic --timeout 3600 --label "$prompt" -- sh -euc "$song" song "$prompt" "$url" &
done
wait
