-- A lease on any account, for a caller who asks for nothing else: on one with room while nobody is in line,
-- or on the one that is offered to its process.

-- Return `id` if the lease is new; a live one is asked for again.
local function put_down(key, id)
  local row = cjson.encode({
    account = id, state = 'held', since = now, process = ARGV[2],
    label = ARGV[11] ~= '' and ARGV[11]:sub(2) or nil,
  })
  if call('HSETNX', K.rows, key, row) == 0 then return end
  call('ZADD', K.owned, 0, key)
  call('ZADD', K.held, 0, #id .. ':' .. id .. ':' .. key)
  return id
end

local function with_room(key, me)
  if me:find('"wants":', 1, true) or call('ZCARD', K.line) > 1 then return end
  local count = call('ZCOUNT', K.room, '-inf', '(' .. BAND)
  if count == 0 then return end
  local rank = math.floor(ARGV[7] * count)
  local id = call('ZRANGE', K.room, rank, rank)[1]
  local account = cjson.decode(call('HGET', K.accounts, id) or 'false')
  if not account or account.pauses or account.limit or not put_down(key, id) then return end
  local of_account = #id .. ':' .. id
  local live = call('ZLEXCOUNT', K.held, '[' .. of_account .. ':', '(' .. of_account .. ';')
  local runs = live + account.external
  call('ZADD', K.room, runs < account.capacity and runs or runs + BAND, id)
  return id
end

-- The reservation becomes the lease, so that the account stays as full as it is. It is the only one that
-- may be granted if no other has room, and itself has none beside what is reserved.
local function as_offered(key, text)
  local me, then_wants = cjson.decode(text), ARGV[14]
  local id = me.offer
  if not id or me.wants ~= 'any' or me.priority or ARGV[16] ~= '' or then_wants ~= '' and then_wants ~= '[]' then return end
  local account = cjson.decode(call('HGET', K.accounts, id) or 'false')
  local score = call('ZSCORE', K.room, id)
  if not account or account.pauses or account.limit or account.spaced then return end
  if call('ZCOUNT', K.room, '-inf', '(' .. BAND) > 0 then return end
  if not score or score - BAND ~= (LEAST_LOADED and 1 or account.capacity) or not put_down(key, id) then return end
  call('ZREM', K.held, #id .. ':' .. id .. ':' .. OWNER .. '-offer')
  call('ZREM', K.agenda, ('offer:%016d:%s'):format(me.offer_place, OWNER))
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

local function fast()
  local key, offered = ARGV[6], ARGV[12] == '1'
  if ARGV[8] .. ARGV[9] .. ARGV[10] .. ARGV[13] ~= '0' then return end -- the last is the spacing
  if not offered and (ARGV[14] .. ARGV[15] ~= '' or LEAST_LOADED) then return end
  if call('ZSCORE', K.tombs, key) then return end
  local version, due, loose, me = calm()
  if not version then return end
  local id
  if offered then id = as_offered(key, me) else id = with_room(key, me) end
  if not id then return end
  if offered then due = tonumber(call('ZRANGE', K.agenda, 0, 0, 'WITHSCORES')[2]) end
  return ANSWER:format(version, due - now, loose, cjson.encode(id), now)
end

local answer = fast()
if answer then return answer end
