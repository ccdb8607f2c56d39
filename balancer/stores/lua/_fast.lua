-- Stands ahead of the state in the scripts that most calls are. The usual call is written out in one
-- function, and makes none of those that the unusual ones need: they cost as much as all its commands.

local ANSWER = '[%s,%d,%d,{},%s,%d]' -- as `leave` makes it: version, next end, oldest loose lease, nobody expired

-- Take note that a known owner lives. Return the version in force, the instant of the next end, ms since
-- the oldest loose lease or -1, and the owner's record; nothing, and nothing else is changed, if there is
-- more to do: data to mend, a store that is closed, ends that are due, a while in which nobody was heard.
local function calm()
  if call('EXISTS', unpack(KEYS, 1, 12)) < 12 then return end
  local me = call('HGET', K.owners, OWNER)
  if known[2] or not me or stepped or not heard or now - heard >= 1000 or now - heard >= LEASE_TTL / 8 then
    return
  end
  call('ZADD', K.timers, now + LEASE_TTL, 'owner:' .. OWNER)
  local due = tonumber(call('ZRANGE', K.timers, 0, 0, 'WITHSCORES')[2])
  if due <= now then return end
  local since = tonumber(call('ZRANGE', K.loose, 0, 0, 'WITHSCORES')[2])
  return known[1] or 0, due, since < math.huge and math.max(0, now - since) or -1, me
end
