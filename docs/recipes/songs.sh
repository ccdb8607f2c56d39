#!/bin/sh
# A song for each line of stdin, as many at once as the accounts take.
#   USEAPI_TOKEN=… ./songs.sh < prompts.txt
# Scripts side by side share one count, in SQLite in the user's state folder. Each song holds its slot until its job
# has ended. For a file of prompts, `balancer batch` does this in one process and survives being killed.
set -eu
export BALANCER_SERVICE=flowmusic

song() {
    # 0: the id of a job that runs. Otherwise it was refused, or may run: balancer says which, and sends nothing twice.
    job=$(balancer submit flowmusic music prompt="$1" --label "$1" --timeout "${GIVE_UP:-3600}") || return 1
    if balancer wait "$job" --timeout "${GIVE_UP:-3600}" > /dev/null; then
        printf '%s: completed as %s\n' "$1" "$job"
    else
        printf '%s: job %s has failed, or not ended\n' "$1" "$job" >&2
    fi
}

while IFS= read -r prompt || [ -n "$prompt" ]; do
    [ -n "$prompt" ] || continue
    song "$prompt" &
done
wait
