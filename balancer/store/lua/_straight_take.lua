-- A lease on any account, for a caller who asks for nothing else, with nobody in line.

local function straight()
  local key, constraints = ARGV[6], ARGV[8] .. ARGV[9] .. ARGV[11] .. ARGV[12] .. ARGV[13] .. ARGV[14]
  if constraints ~= '' or LEAST_LOADED then return end
  if call('HEXISTS', K.rows, key) == 1 or call('ZSCORE', K.tombs, key) then return end
  local head, count = calm(), call('ZCOUNT', K.room, '-inf', '(' .. BAND)
  if not head or count == 0 then return end
  local rank = math.floor(tonumber(ARGV[7]) * count)
  local id = call('ZRANGE', K.room, rank, rank)[1]
  local account = plain(id)
  if not account then return end
  write(K.rows, key, {
    account = id, state = 'held', since = now, process = ARGV[2], label = optional(ARGV[10]),
  })
  call('ZADD', K.owned, 0, key)
  call('ZADD', K.held, 0, member(id, key))
  file(id, account)
  return head .. cjson.encode(id) .. ']'
end

local answer = straight()
if answer then return answer end
