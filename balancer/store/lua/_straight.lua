-- Stands ahead of the state in the scripts that most calls are. The usual call is written out in one
-- function, and makes none of those that the unusual ones need: they cost as much as all its commands.

-- Take note that a known owner lives. Return the answer that all calls begin with; nothing, and nothing
-- else is changed, if there is more to do: data to mend, a store that is closed, ends that are due,
-- processes that wait.
local function calm()
  if call('EXISTS', unpack(KEYS, 1, 12)) < 12 then return end
  local known, me = call('HMGET', K.meta, 'version', 'closed'), call('HGET', K.owners, OWNER)
  if known[2] or not me or me:find('"wants":', 1, true) or call('ZCARD', K.line) > 1 then return end
  call('ZADD', K.agenda, now + LEASE_TTL, 'owner:' .. OWNER)
  local due = tonumber(call('ZRANGE', K.agenda, 0, 0, 'WITHSCORES')[2])
  if due <= now then return end
  local since = tonumber(call('ZRANGE', K.loose, 0, 0, 'WITHSCORES')[2])
  local loose = since < math.huge and math.max(0, now - since) or -1
  return ('[%s,%d,%d,{},'):format(known[1] or 0, due - now, loose)
end
