-- Stands before every script: the keys, what all calls bring along, and the clock.
--
-- KEYS  the same order in every script, which may leave out those at the end that it never touches
-- ARGV  1 owner   2 its host:pid
--       3 "lease_ttl job_ttl ambiguous_ttl flags": three numbers of ms; "l" for the strategy
--         least_loaded, "o" if max_jobs can only lower, "s" if grants are spaced (all in one, as each
--         argument costs bytes)
--       4 the owner's reckoning: what the clock below should read at least, by the last answer and the time
--       since then; "" if it has never been answered, "-" if that was long ago
--       5 now in ms, or "" for this server's time   6 … the fields of the operation, in order
-- Answer  JSON: [version, ms to the next end or -1, ms since the oldest bound or ambiguous lease or -1, expired
--         leases, result, now, what the owner is to be warned of if anything, what was learned of accounts if
--         anything]. One text, as the server sends each part of an array apart. (An empty list may be {}, as
--         Lua does not tell lists from objects.)
--
-- Above it stand, in ms: OFFER, for which a slot is reserved; MEMORY, for which ended leases and released jobs
-- are remembered; FIRST_WAIT and LONGEST_WAIT from one trial of a limit to the next.
--
-- Instants are whole milliseconds, which JSON keeps exactly. Every key holds a placeholder under the
-- empty name, so that none vanishes by being empty: one that is missing was deleted or evicted.
--
-- All of this is made anew at each call. A function costs what it captures, so what most calls do not
-- need is made inside of what does need it, and keys are fields of a table.

local K = {
  rows = KEYS[1], held = KEYS[2], owned = KEYS[3], timers = KEYS[4], loose = KEYS[5], jobs = KEYS[6],
  tombs = KEYS[7], accounts = KEYS[8], room = KEYS[9], line = KEYS[10], owners = KEYS[11], meta = KEYS[12],
  done = KEYS[13], early = KEYS[14], table = KEYS[15],
}
local OWNER = ARGV[1]
local SETTINGS, spaced = ARGV[3]:gsub('s$', '')
local SPACED = spaced == 1 or nil -- of whoever makes the offer: it is no setting that has to be one for all
local LEASE_TTL, JOB_TTL, AMBIGUOUS_TTL, FLAGS = SETTINGS:match('^(%d+) (%d+) (%d+) (%a*)$')
local DAY = 86400000 -- ms
local BATCH = 50 -- ends in one call, so that none pays for thousands
local BAND = 16777216 -- see refile
local SURE = 1000 -- ms by which clocks may differ, and answers be late, without anything being wrong
local LONG = 5000 -- ms without a call from anybody that a step of this server's clock may look like

local call = redis.call
local known = call('HMGET', K.meta, 'version', 'closed', 'heard', 'skew', 'settings')
local heard = tonumber(known[3])

-- What counts of the settings is one for all, whatever a pool was made with: see `rule`.
local RULING = known[5]
local MIXED = RULING and RULING ~= SETTINGS
if MIXED then FLAGS = RULING:match('(%a*)$') end
local LEAST_LOADED = FLAGS:find('l')

-- All instants are of the fleet's own clock: this server's, less the steps that it has made. It has stepped
-- back if it reads less than it did, or than a process knows by its own clock that it must; and ahead, if for
-- long nobody called, and the caller knows better. A store that has lost its memory goes on where it was, if the
-- caller knows: else the next who does would take that for a step.
local now, skew, stepped = tonumber(ARGV[5]), known[4] or 0, false
if not now then
  local time = call('TIME')
  local reads = time[1] * 1000 + math.floor(time[2] / 1000)
  now = reads + skew
  local reckoned = tonumber(ARGV[4])
  if not heard and reckoned and now < reckoned then now, skew = reckoned, reckoned - reads end
  if heard and (now < heard or now - heard > LONG or known[2] or reckoned and now < reckoned) then
    local least, quiet = math.max(reckoned or 0, heard), tonumber(call('HGET', K.meta, 'quiet'))
    if now < least - SURE then
      stepped = true
    elseif now - (quiet or heard) > LONG and reckoned and now - reckoned > SURE then
      stepped, least = true, math.max(reckoned, quiet or heard)
      if quiet then call('DEL', K.timers) end -- it was made by a clock that was ahead; see `repair`
    end
    if stepped then now, skew = least, least - reads end
  end
end
