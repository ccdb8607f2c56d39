-- The table in force, and claims: who fetches, and who reconciles, for all.

-- Return the version in force, 0 if there is none or its table was deleted.
local function version_in_force()
  if version > 0 and call('HLEN', K.table) ~= tonumber(call('HGET', K.meta, 'accounts')) then
    call('HDEL', K.meta, 'version')
    version = 0
  end
  return version
end

local function read_claim(what)
  return read(K.meta, what) or {}
end

-- Return the claim `number` if it is not void.
local function valid(what, number)
  local claim = read_claim(what)
  if claim.number == number and claim.void_at and now < claim.void_at then return claim end
end

-- Give a claim back: it was done.
local function done(what, claim)
  write(K.meta, what, {number = claim.number, done_at = now})
end

-- Whether the process that holds the claim is dead: who lives listens while it does what it claimed.
local function orphaned(claim)
  if now - (claim.since or now) < GRACE then return false end -- it may not listen yet
  local listeners = redis.pcall('PUBSUB', 'NUMSUB', K.rows:sub(1, -5) .. 'offers:' .. claim.owner)
  return listeners[2] == 0
end

-- Ask for the right to fetch or to reconcile for all.
-- Answer  {go: it is granted, number, retry_in: ms after which to ask again, age: ms since it was done,
--          trouble: {type and text} of the error that asked for a pause, if that is why}
local function claim(what, max_age, hold)
  enter()
  keep_keys()
  local claim = read_claim(what)
  local age = claim.done_at and now - claim.done_at
  -- Who holds it may claim it again: the reply may have been lost.
  local busy = claim.owner ~= OWNER and math.max(0, (claim.void_at or 0) - now) or 0
  if busy > 0 and orphaned(claim) then busy = 0 end
  local pause = max_age > 0 and math.max(0, (claim.retry_at or 0) - now) or 0

  if age and age < max_age then return leave({go = false, age = age}) end
  if busy > 0 then return leave({go = false, retry_in = busy, age = age}) end
  if pause > 0 then
    return leave({go = false, retry_in = pause, age = age, trouble = {claim.kind, claim.text}})
  end
  local number = higher(claim.number)
  write(K.meta, what, {
    number = number, owner = OWNER, since = now, void_at = now + hold, done_at = claim.done_at,
  })
  return leave({go = true, number = number, age = age})
end

-- Give a claim back without success.
-- Answer  nil
local function fail(what, number, kind, text, pause)
  enter()
  local claim = valid(what, number)
  if claim then
    claim.void_at, claim.retry_at = nil, now + pause
    claim.kind, claim.text = kind, text
    write(K.meta, what, claim)
  end
  return leave()
end
