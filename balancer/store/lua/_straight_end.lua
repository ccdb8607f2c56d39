-- The end of a held lease by its own process, with nobody in line.

local function straight()
  local key = ARGV[6]
  if key:match('^(.*)%-') ~= OWNER then return end
  local row = read(K.rows, key)
  if not row or row.state ~= 'held' or row.adverse then return end
  local account, head = plain(row.account), calm()
  if not account or not head then return end
  remember(K.tombs, key, MOST_TOMBS)
  call('HDEL', K.rows, key)
  call('ZREM', K.owned, key)
  call('ZREM', K.held, member(row.account, key))
  file(row.account, account)
  return head .. cjson.encode({
    key = key, account = row.account, state = 'held', label = row.label, age = now - row.since,
  }) .. ']'
end

local answer = straight()
if answer then return answer end
