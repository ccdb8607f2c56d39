-- Stands before every script: the keys, what all calls bring along, and the clock.
--
-- KEYS  the same order in every script, which may leave out those at the end that it never touches
-- ARGV  1 owner   2 its host:pid
--       3 "lease_ttl job_ttl ambiguous_ttl flags": three numbers of ms; "l" for the strategy
--         least_loaded, "o" if max_jobs can only lower (all in one, as each argument costs bytes)
--       4 "1" if the owner has never been answered yet   5 now in ms, or "" for this server's time
--       6 … what the script documents
-- Answer  JSON: [version, ms to the next end or -1, ms since the oldest bound or ambiguous lease or
--          -1, expired leases, result]. One text, as the server sends each part of an array apart.
--          (An empty list may be {}, as Lua does not tell lists from objects.)
--
-- Instants are whole milliseconds, which JSON keeps exactly. Every key holds a placeholder under the
-- empty name, so that none vanishes by being empty: one that is missing was deleted or evicted.
--
-- All of this is made anew at each call. A function costs what it captures, so what most calls do not
-- need is made inside of what does need it, and keys are fields of a table.

local K = {
  rows = KEYS[1], held = KEYS[2], owned = KEYS[3], agenda = KEYS[4], loose = KEYS[5], jobs = KEYS[6],
  tombs = KEYS[7], accounts = KEYS[8], room = KEYS[9], line = KEYS[10], owners = KEYS[11], meta = KEYS[12],
  done = KEYS[13], early = KEYS[14], table = KEYS[15],
}
local OWNER = ARGV[1]
local LEASE_TTL, JOB_TTL, AMBIGUOUS_TTL, FLAGS = ARGV[3]:match('^(%d+) (%d+) (%d+) (%a*)$')
local LEAST_LOADED = FLAGS:find('l')

local MEMORY = 600000 -- ms for which ended leases and released jobs are remembered
local BATCH = 50 -- ends in one call, so that none pays for thousands
local BAND = 16777216 -- see refile

local call = redis.call
local now = tonumber(ARGV[5])
if not now then
  local time = call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
