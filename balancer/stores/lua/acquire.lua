-- On which account a slot is granted.

-- Any account with room, which is what most jobs ask for: by rank, so that nobody else is looked at.
local function any(draw)
  local most = '(' .. BAND
  if LEAST_LOADED then
    local least = call('ZRANGE', K.room, 0, 0, 'WITHSCORES')[2]
    if tonumber(least) < BAND then most = least end
  end
  local count = call('ZCOUNT', K.room, '-inf', most)
  if count == 0 then return end
  local rank = math.floor(draw * count)
  return call('ZRANGE', K.room, rank, rank)[1]
end

-- One that meets the constraints.
local function one_of(ids, draw, max_jobs, scope)
  local function fits(id, account)
    if account.broken or account.draining or account.spaced or blocked(account, scope) then return false end
    local most = max_jobs and FLAGS:find('o') and math.min(max_jobs, account.capacity) or max_jobs
    return running(id, account) < bound(account, most)
  end

  -- The first that fits, or the first of the least loaded that do.
  local function first_of(ids)
    local best, least = nil, math.huge
    local plain = not scope and not max_jobs -- then its place tells whether it has room
    for _, id in ipairs(ids) do
      local place = plain and tonumber(call('ZSCORE', K.room, id) or BAND)
      local account = (not plain or place < BAND) and read(K.accounts, id)
      if account and fits(id, account) then
        if not LEAST_LOADED then return id end
        local load = running(id, account) / account.capacity
        if load < least then best, least = id, load end
      end
    end
    return best
  end

  local function at(rank)
    return call('ZRANGE', K.room, rank, rank)[1]
  end

  local function count(low, high)
    return call('ZCOUNT', K.room, low, '(' .. high)
  end

  -- The accounts that a cooldown blocks may still fit a job of another scope.
  local function blocked_but_fit()
    local found = {}
    if not scope then return found end
    for _, id in ipairs(call('ZRANGEBYSCORE', K.room, 2 * BAND, '(inf')) do
      local account = read(K.accounts, id)
      if account and fits(id, account) then found[#found + 1] = id end
    end
    return found
  end

  -- By rank, as the score is what runs on an account: nobody is looked at but who is chosen.
  local function any_by_count()
    local room, trials = count('-inf', BAND), max_jobs and count('-inf', 0) or 0
    local most = max_jobs and math.min(max_jobs, BAND / 2)
    local below = max_jobs and count(0, most) or room
    local full = max_jobs and not FLAGS:find('o') and count(BAND, BAND + most) or 0
    local others = blocked_but_fit()
    local index = math.floor(draw * (below + full + #others))
    if index < below then return at(trials + index) end
    if index < below + full then return at(room + index - below) end
    return others[index - below - full + 1]
  end

  -- Among all who have the lowest load.
  local function any_by_load()
    local best, least = {}, math.huge
    for _, id in ipairs(call('ZRANGEBYSCORE', K.room, '-inf', '(inf')) do
      local account = read(K.accounts, id)
      if account and fits(id, account) then
        local load = running(id, account) / account.capacity
        if load < least then best, least = {}, load end
        if load == least then best[#best + 1] = id end
      end
    end
    return best[math.floor(draw * #best) + 1]
  end

  if ids then return first_of(ids) end
  if LEAST_LOADED then return any_by_load() end
  return any_by_count()
end

-- Whether a slot can be expected of an account without anybody mending it, or of one that is full.
local function hope(ids, scope)
  if not ids then return call('ZCOUNT', K.room, BAND, '(' .. 2 * BAND) > 0 end
  for _, id in ipairs(ids) do
    local account = read(K.accounts, id)
    local worth = account and not account.broken and not account.draining
    for _, cooldown in ipairs(worth and account.cooldowns or {}) do
      local concerns = not scope or not cooldown.scope or cooldown.scope == scope
      if concerns and cooldown.cooling and not cooldown.worth_waiting then worth = false end
    end
    if worth then return true end
  end
end

-- Return the account; or nil, and whether waiting may help.
local function grant(key, draw, ids, max_jobs, scope, label, spacing)
  local live = read(K.rows, key)
  if live then return live.account end
  if remembers(K.tombs, key) then return end
  if closed then return nil, true end
  local id
  if ids or scope or max_jobs then id = one_of(ids, draw, max_jobs, scope) else id = any(draw) end
  if not id then return nil, hope(ids, scope) end
  local account = read(K.accounts, id)
  local limit = account.limit
  if limit and limit.due and running(id, account) >= limit.jobs then limit.trial, limit.due = key, nil end
  write(K.rows, key, {
    account = id, state = 'held', since = now, process = ARGV[2], scope = scope, label = label,
  })
  call('ZADD', K.owned, 0, key)
  occupy(id, account, key, scope, spacing > 0 and spacing)
  return id
end

-- Grant a lease.
-- `accounts` come in random order; `spacing` is for how many ms this leaves its account alone.
-- Answer  id of the account, or nil; 0 if there is none, but waiting may help
local function acquire(
  key, draw, label, spacing, scope, accounts, max_jobs, offered,
  then_wants, else_wants, then_priority, else_priority
)
  local me = enter()
  if offered then end_offer(OWNER, me) end
  local id, waiting_helps = grant(key, draw, accounts, max_jobs, scope, label, spacing)
  local wants, priority = else_wants, else_priority
  if id then wants, priority = then_wants, then_priority end
  if me.wants or wants then
    if id and wants then me.place = next_place() end
    set_wants(OWNER, me, wants, priority)
    write(K.owners, OWNER, me)
  end
  return leave(id or waiting_helps and 0 or nil)
end
