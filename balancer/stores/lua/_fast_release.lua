-- The end of a held lease by its own process, whose slot nobody waits for, or one who takes any.

local function fast(key)
  if key:match('^(.*)%-') ~= OWNER then return end
  local text = call('HGET', K.rows, key)
  local row = text and cjson.decode(text)
  if not row or row.state ~= 'held' or row.adverse then return end
  local id = row.account
  local account = cjson.decode(call('HGET', K.accounts, id) or 'false')
  if not account or account.cooldowns or account.limit or account.spaced then return end
  if account.broken or account.draining then return end
  local first = call('ZRANGE', K.line, 0, 0)[1] -- the placeholder, if nobody is in line
  if not first then return end
  local of_account = #id .. ':' .. id
  local live = call('ZLEXCOUNT', K.held, '[' .. of_account .. ':', '(' .. of_account .. ';')
  local runs = live + account.external - 1
  local heir
  if first ~= '' and runs < account.capacity then
    -- Other cases are those in which not this one alone, or not just this slot, may be offered.
    heir = runs + 1 == account.capacity and cjson.decode(call('HGET', K.owners, first) or 'false')
    if not heir or heir.wants ~= 'any' or SPACED then return end
  end
  local version, due, loose = calm()
  if not version then return end

  call('HDEL', K.rows, key)
  call('ZREM', K.owned, key)
  call('ZREM', K.held, of_account .. ':' .. key)
  if heir then -- the account stays as full as it was; see `offer`
    heir.offer, heir.offer_place = id, math.max((tonumber(call('HGET', K.meta, 'place')) or 0) + 1, now)
    call('HSET', K.meta, 'place', heir.offer_place)
    call('HSET', K.owners, first, cjson.encode(heir))
    call('ZREM', K.line, first)
    call('ZADD', K.timers, now + OFFER, ('offer:%016d:%s'):format(heir.offer_place, first))
    call('ZADD', K.held, 0, of_account .. ':' .. first .. '-offer')
    call('PUBLISH', K.rows:sub(1, -5) .. 'offers:' .. first, id)
    due = math.min(due, now + OFFER)
  else
    local score = LEAST_LOADED and runs / account.capacity or runs
    call('ZADD', K.room, runs < account.capacity and score or score + BAND, id)
  end
  remember(K.tombs, key, MOST_TOMBS)
  return ANSWER:format(version, due - now, loose, cjson.encode({
    key = key, account = id, state = 'held', label = row.label, age = now - row.since,
  }), now)
end

local answer = fast(ARGV[6]:sub(2))
if answer then return answer end
