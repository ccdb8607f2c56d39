-- The end of a held lease by its own process, with nobody in line.

local function straight()
  local key = ARGV[6]
  if key:match('^(.*)%-') ~= OWNER or now % 8 == 0 then return end -- one in eight clears up; see remember
  local text = call('HGET', K.rows, key)
  local row = text and cjson.decode(text)
  if not row or row.state ~= 'held' or row.adverse then return end
  local id = row.account
  local account = cjson.decode(call('HGET', K.accounts, id) or 'false')
  if not account or account.pauses or account.broken or account.draining then return end
  local head = calm()
  if not head then return end
  local of_account = #id .. ':' .. id
  call('ZADD', K.tombs, now, key)
  call('HDEL', K.rows, key)
  call('ZREM', K.owned, key)
  call('ZREM', K.held, of_account .. ':' .. key)
  local live = call('ZLEXCOUNT', K.held, '[' .. of_account .. ':', '(' .. of_account .. ';')
  local runs = live + account.external
  call('ZADD', K.room, runs < account.capacity and runs or runs + BAND, id)
  return head .. cjson.encode({
    key = key, account = id, state = 'held', label = row.label, age = now - row.since,
  }) .. ']'
end

local answer = straight()
if answer then return answer end
