#!/bin/sh
# A song for each line of stdin, as many at once as the accounts take, from plain curl.
#   USEAPI_TOKEN=… ./songs.sh < prompts.txt
# Scripts side by side share one count: `balancer exec` keeps it in SQLite, in the user's state folder.
set -eu
url="${USEAPI_BASE_URL:-https://api.useapi.net}/v1/flowmusic"

song='
    body=$(printf "%s" "$BALANCER_PARAMS" | sed "s/}$/, \"prompt\": \"$1\"}/")
    job=$(curl --silent --fail --header "Authorization: Bearer $USEAPI_TOKEN" \
        --header "Content-Type: application/json" --data "$body" "$2/music" |
        sed "s/.*\"jobid\": *\"\([^\"]*\)\".*/\1/")
    # The slot is held for as long as this command runs: until the job is over.
    while :; do
        status=$(curl --silent --fail --header "Authorization: Bearer $USEAPI_TOKEN" "$2/jobs/$job" |
            sed "s/.*\"status\": *\"\([^\"]*\)\".*/\1/")
        case $status in completed | failed) break ;; esac
        sleep "${POLL_EVERY:-10}"
    done
    echo "$1: $status on $BALANCER_ACCOUNT"
'
while read -r prompt; do
    balancer exec --service flowmusic --timeout 3600 --label "$prompt" -- sh -euc "$song" song "$prompt" "$url" &
done
wait
