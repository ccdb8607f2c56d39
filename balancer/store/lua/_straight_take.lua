-- A lease on any account, for a caller who asks for nothing else, with nobody in line.

local function straight()
  local key, constraints = ARGV[6], ARGV[8] .. ARGV[9] .. ARGV[11] .. ARGV[12] .. ARGV[13] .. ARGV[14]
  if constraints ~= '' or LEAST_LOADED then return end
  local head = not call('ZSCORE', K.tombs, key) and calm()
  if not head then return end
  local count = call('ZCOUNT', K.room, '-inf', '(' .. BAND)
  if count == 0 then return end
  local rank = math.floor(ARGV[7] * count)
  local id = call('ZRANGE', K.room, rank, rank)[1]
  local account = cjson.decode(call('HGET', K.accounts, id) or 'false')
  if not account or account.pauses then return end
  local row = cjson.encode({
    account = id, state = 'held', since = now, process = ARGV[2],
    label = ARGV[10] ~= '' and ARGV[10]:sub(2) or nil,
  })
  if call('HSETNX', K.rows, key, row) == 0 then return end -- it is live: asked for again
  local of_account = #id .. ':' .. id
  call('ZADD', K.owned, 0, key)
  call('ZADD', K.held, 0, of_account .. ':' .. key)
  local live = call('ZLEXCOUNT', K.held, '[' .. of_account .. ':', '(' .. of_account .. ';')
  local runs = live + account.external
  call('ZADD', K.room, runs < account.capacity and runs or runs + BAND, id)
  return head .. cjson.encode(id) .. ']'
end

local answer = straight()
if answer then return answer end
