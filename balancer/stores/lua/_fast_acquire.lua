-- A lease on any account, for a caller who asks for nothing else: on one with room while nobody is in line,
-- or on the one that is offered to its process.

-- Return `id` if the lease is new; a live one is asked for again.
local function put_down(key, id, label)
  local row = cjson.encode({
    account = id, state = 'held', since = now, process = ARGV[2],
    label = label ~= '' and label:sub(2) or nil,
  })
  if call('HSETNX', K.rows, key, row) == 0 then return end
  call('ZADD', K.owned, 0, key)
  call('ZADD', K.held, 0, #id .. ':' .. id .. ':' .. key)
  return id
end

local function with_room(key, draw, label, me)
  if me:find('"wants":', 1, true) or call('ZCARD', K.line) > 1 then return end
  local count = call('ZCOUNT', K.room, '-inf', '(' .. BAND)
  if count == 0 then return end
  local rank = math.floor(draw * count)
  local id = call('ZRANGE', K.room, rank, rank)[1]
  local account = cjson.decode(call('HGET', K.accounts, id) or 'false')
  if not account or account.cooldowns or account.limit or not put_down(key, id, label) then return end
  local of_account = #id .. ':' .. id
  local live = call('ZLEXCOUNT', K.held, '[' .. of_account .. ':', '(' .. of_account .. ';')
  local runs = live + account.external
  call('ZADD', K.room, runs < account.capacity and runs or runs + BAND, id)
  return id
end

-- The reservation becomes the lease, so that the account stays as full as it is. It is the only one that
-- may be granted if no other has room, and itself has none beside what is reserved.
local function as_offered(key, label, then_wants, then_priority, text)
  local me = cjson.decode(text)
  local id = me.offer
  if not id or me.wants ~= 'any' or me.priority then return end
  if then_priority ~= '' or then_wants ~= '' and then_wants ~= '[]' then return end
  local account = cjson.decode(call('HGET', K.accounts, id) or 'false')
  local score = call('ZSCORE', K.room, id)
  if not account or account.cooldowns or account.limit or account.spaced then return end
  if call('ZCOUNT', K.room, '-inf', '(' .. BAND) > 0 then return end
  if not score or score - BAND ~= (LEAST_LOADED and 1 or account.capacity) then return end
  if not put_down(key, id, label) then return end
  call('ZREM', K.held, #id .. ':' .. id .. ':' .. OWNER .. '-offer')
  call('ZREM', K.timers, ('offer:%016d:%s'):format(me.offer_place, OWNER))
  me.offer, me.offer_place = nil, nil
  if then_wants == '' then
    me.wants, me.place = nil, nil
  else
    me.place = math.max((tonumber(call('HGET', K.meta, 'place')) or 0) + 1, now)
    call('HSET', K.meta, 'place', me.place)
    call('ZADD', K.line, me.place, OWNER)
  end
  call('HSET', K.owners, OWNER, cjson.encode(me))
  return id
end

-- (What it is called with are texts as they were sent; what was empty at the end is nil.)
local function fast(
  key, draw, label, spacing, scope, accounts, max_jobs, offered, then_wants, else_wants, then_priority
)
  if spacing ~= '0' or (scope or '') .. (accounts or '') .. (max_jobs or '') ~= '' then return end
  offered, then_wants = offered == '1', then_wants or ''
  if not offered and (then_wants .. (else_wants or '') ~= '' or LEAST_LOADED) then return end
  if call('ZSCORE', K.tombs, key) then return end
  local version, due, loose, me = calm()
  if not version then return end
  local id
  if offered then
    id = as_offered(key, label, then_wants, then_priority or '', me)
  else
    id = with_room(key, draw, label, me)
  end
  if not id then return end
  if offered then due = tonumber(call('ZRANGE', K.timers, 0, 0, 'WITHSCORES')[2]) end
  return ANSWER:format(version, due - now, loose, cjson.encode(id), now)
end

local answer = fast(unpack(ARGV, 6))
if answer then return answer end
