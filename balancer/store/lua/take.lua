-- Grant a lease.
--
-- ARGV  6 key   7 draw in [0, 1)   8 max_jobs or ""   9 "=scope" or ""   10 "=label" or ""
--       11 "1": use what is reserved for this owner   12 wants once granted   13 wants if not granted
--       14 JSON list of accounts in random order, or ""
-- Answer  id of the account, or nil

local key, draw, max_jobs = ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local scope, label, offered = optional(ARGV[9]), optional(ARGV[10]), ARGV[11] == '1'

local function fits(id, account)
  local most = account.capacity
  if max_jobs then most = LOWER_ONLY and math.min(max_jobs, most) or max_jobs end
  return usable(account) and used(id, account) < most and not blocked(account, scope)
end

-- The first that fits, or the first of the least loaded that do.
local function first_of(ids)
  local best, least = nil, math.huge
  for _, id in ipairs(ids) do
    local account = read(ACCOUNTS, id)
    if account and fits(id, account) then
      if not LEAST_LOADED then return id end
      local load = load_of(id, account)
      if load < least then best, least = id, load end
    end
  end
  return best
end

local function at(rank)
  return call('ZRANGE', ROOM, rank, rank)[1]
end

local function count(low, high)
  return call('ZCOUNT', ROOM, low, '(' .. high)
end

-- The accounts that a pause blocks may still fit a job of another scope.
local function blocked_but_fit()
  local found = {}
  if not scope then return found end
  for _, id in ipairs(call('ZRANGEBYSCORE', ROOM, 2 * BAND, '(inf')) do
    local account = read(ACCOUNTS, id)
    if account and fits(id, account) then found[#found + 1] = id end
  end
  return found
end

-- By rank, as the score is what runs on an account: nobody is looked at but who is chosen.
local function any_by_count()
  local room = count('-inf', BAND)
  local below = max_jobs and math.min(room, count('-inf', max_jobs)) or room
  local full = max_jobs and not LOWER_ONLY and count(BAND, BAND + max_jobs) or 0
  local others = blocked_but_fit()
  local index = math.floor(draw * (below + full + #others))
  if index < below then return at(index) end
  if index < below + full then return at(room + index - below) end
  return others[index - below - full + 1]
end

-- All who have the lowest load. Only a job with constraints has everybody looked at.
local function any_by_load()
  if not max_jobs and not scope then
    local least = call('ZRANGE', ROOM, 0, 0, 'WITHSCORES')[2]
    if tonumber(least) >= BAND then return end
    return at(math.floor(draw * call('ZCOUNT', ROOM, '-inf', least)))
  end
  local best, least = {}, math.huge
  for _, id in ipairs(call('ZRANGEBYSCORE', ROOM, '-inf', '(inf')) do
    local account = read(ACCOUNTS, id)
    if account and fits(id, account) then
      local load = load_of(id, account)
      if load < least then best, least = {}, load end
      if load == least then best[#best + 1] = id end
    end
  end
  return best[math.floor(draw * #best) + 1]
end

local function choose()
  if ARGV[14] ~= '' then return first_of(decode(ARGV[14])) end
  if LEAST_LOADED then return any_by_load() end
  return any_by_count()
end

local function grant()
  local live = read(ROWS, key)
  if live then return live.account end
  if remembers(TOMBS, key) then return end
  local id = choose()
  if not id then return end
  local account = read(ACCOUNTS, id)
  write(ROWS, key, {
    account = id, state = 'held', since = now, process = PROCESS, scope = scope, label = label,
  })
  call('ZADD', OWNED, 0, key)
  occupy(id, account, key, scope)
  return id
end

local me = enter()
if offered then end_offer(OWNER, me) end
local id = grant()
local wants = id and ARGV[12] or ARGV[13]
if me.wants or wants ~= '' then
  if id and wants ~= '' then to_the_back(me) end
  set_wants(OWNER, me, wants)
  write(OWNERS, OWNER, me)
end
return leave(id)
