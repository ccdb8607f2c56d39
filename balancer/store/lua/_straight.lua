-- Stands ahead of the state in the scripts that most calls are: the usual call is written out, and makes
-- none of the functions that the unusual ones need. They cost more than all its commands.

-- Take note that a known owner lives. Return the answer that all calls begin with; nothing, and nothing
-- else is changed, if there is more to do: data to mend, a store that is
-- closed, ends that are due, processes that wait.
local function calm()
  if call('EXISTS', unpack(KEYS, 1, 12)) < 12 then return end
  local me = call('HGET', K.owners, OWNER)
  if not me or me:find('"wants":', 1, true) or call('ZCARD', K.line) > 1 then return end
  call('ZADD', K.agenda, now + LEASE_TTL, 'owner:' .. OWNER)
  local due = tonumber(call('ZRANGE', K.agenda, 0, 0, 'WITHSCORES')[2])
  if due <= now then return end
  local known = call('HMGET', K.meta, 'version', 'closed')
  if known[2] then return end
  local since = tonumber(call('ZRANGE', K.loose, 0, 0, 'WITHSCORES')[2])
  local loose = since < math.huge and math.max(0, now - since) or -1
  local version = tonumber(known[1]) or 0
  return ('[%.0f,%.0f,%.0f,{},'):format(version, due - now, loose)
end

-- Return the record of an account that is a number of slots and nothing else; nothing for any other.
local function plain(id)
  local account = read(K.accounts, id)
  if account and not (account.pauses or account.broken or account.draining) then return account end
end

-- File such an account by what runs on it now; see refile.
local function file(id, account)
  local runs = in_flight(id) + account.external
  call('ZADD', K.room, runs < account.capacity and runs or runs + BAND, id)
end
