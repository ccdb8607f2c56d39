-- Stands before every script, after the base: the rows that are true, and what runs on an account.

local version, closed -- of the table in force, and until when nothing is granted: nil if there is none
local expired = {}
local touched = {} -- accounts that have room, and may not have had it before this call
local learned -- {account, limit, capacity, 1 if raised} of each limit that is another since this call
local seekers = {} -- owners who came into the line, and have not looked at all accounts yet

-- An optional text travels as "=text", and as "" if there is none. (What is empty at the end is not sent.)
local function optional(text)
  if text and text ~= '' then return text:sub(2) end
end

local function parsed(text)
  if text and text ~= '' then return cjson.decode(text) end
end

-- No account's members are a prefix of another's, whatever the ids look like.
local function member(id, key)
  return #id .. ':' .. id .. ':' .. key
end

local function read(key, field)
  local text = call('HGET', key, field)
  if text and text ~= '' then return cjson.decode(text) end
end

local function write(key, field, value)
  call('HSET', key, field, cjson.encode(value))
end

local function in_flight(id)
  local start = #id .. ':' .. id
  return call('ZLEXCOUNT', K.held, '[' .. start .. ':', '(' .. start .. ';')
end

-- Call `act` with each slot that is taken on an account: its key, and the text of its lease unless it is reserved.
local function each_on(id, act)
  local start = #id .. ':' .. id
  for _, slot in ipairs(call('ZRANGEBYLEX', K.held, '[' .. start .. ':', '(' .. start .. ';')) do
    local key = slot:sub(#start + 2)
    act(key, call('HGET', K.rows, key))
  end
end

-- Jobs that count against the account's bound.
local function running(id, account)
  return in_flight(id) + account.external
end

-- How many may run for this decision; `most` is what a job asks for that replaces the capacity. See limits.py.
local function bound(account, most)
  local limit = account.limit
  if not limit then return most or account.capacity end
  return math.min(most or account.capacity, limit.jobs + (limit.due and not most and 1 or 0))
end

-- A number that is higher than the last one, also after the data was lost.
local function higher(last)
  return math.max((tonumber(last) or 0) + 1, now)
end

-- Whether one of the cooldowns that concern a job of `scope` keeps jobs away; without scope all do.
local function blocked(account, scope)
  for _, cooldown in ipairs(account.cooldowns or {}) do
    if (cooldown.cooling or cooldown.probe) and (not scope or not cooldown.scope or cooldown.scope == scope) then
      return true
    end
  end
  return false
end

-- Note when something about the account changes by itself: a trial is due, or it may be granted on again.
local function retime(id, account)
  local limit, at = account.limit, account.spaced or math.huge
  if limit and not limit.due and not limit.trial then at = math.min(at, limit.next_at) end
  if at < math.huge then return call('ZADD', K.timers, at, 'account:' .. id) end
  call('ZREM', K.timers, 'account:' .. id)
end

-- K.room holds the usable accounts by score: those with room by how much runs on them, BAND higher those that
-- are full, 2 * BAND higher those that a cooldown blocks. By the score it can be told whom a job with max_jobs of
-- its own fits; so those that have room for a trial only stand BAND lower (unless they go by load), and those
-- that are full by a limit, or were granted on just now, half a BAND higher.
local function refile(id, account)
  local live = in_flight(id)
  if not account.broken and not account.draining then
    local runs = live + account.external
    local score = LEAST_LOADED and runs / account.capacity or runs
    if account.cooldowns and blocked(account) then
      score = score + 2 * BAND
    elseif account.spaced or runs >= bound(account) then
      score = score + ((account.spaced or account.limit) and 1.5 or 1) * BAND
    else
      touched[id] = true
      if account.limit and runs >= account.limit.jobs and not LEAST_LOADED then score = score - BAND end
    end
    call('ZADD', K.room, score, id)
    return
  end
  call('ZREM', K.room, id)
  if account.draining and live == 0 then
    for _, cooldown in ipairs(account.cooldowns or {}) do
      if cooldown.cooling then return end
    end
    call('HDEL', K.accounts, id)
    call('ZREM', K.timers, 'account:' .. id)
  end
end

-- The lease `key` is over, or its job was accepted: if it probed, the probing ends with it.
local function conclude(id, account, key, well)
  if account.cooldowns then
    local kept, changed = {}, false
    for _, cooldown in ipairs(account.cooldowns) do
      local probed = cooldown.probe == key
      changed = changed or probed
      if probed then cooldown.probe = nil end
      if not (probed and well and not cooldown.cooling) then kept[#kept + 1] = cooldown end
    end
    if changed then
      account.cooldowns = #kept > 0 and kept or nil
      write(K.accounts, id, account)
    end
  end
  refile(id, account)
end

-- If the lease `key` is a trial, it has ended without an answer to its question; another comes later.
local function end_trial(id, account, key)
  local limit = account.limit
  if not limit or limit.trial ~= key then return end
  limit.trial, limit.next_at = nil, now + limit.wait
  retime(id, account)
  write(K.accounts, id, account)
end

-- Leave the account alone until then; nil: no longer.
local function space(id, account, ends)
  account.spaced = ends
  retime(id, account)
  write(K.accounts, id, account)
end

-- `key` takes a slot: a lease, or the reservation of an owner.
local function occupy(id, account, key, scope, spacing)
  call('ZADD', K.held, 0, member(id, key))
  for _, cooldown in ipairs(account.cooldowns or {}) do
    if not scope or not cooldown.scope or cooldown.scope == scope then cooldown.probe = key end
  end
  if spacing then
    space(id, account, now + spacing)
  elseif account.cooldowns or account.limit then
    write(K.accounts, id, account)
  end
  refile(id, account)
end

local function vacate(id, key, well, spaced)
  call('ZREM', K.held, member(id, key))
  local account = read(K.accounts, id)
  if not account then return end
  if spaced then space(id, account) end
  end_trial(id, account, key)
  conclude(id, account, key, well)
end

local function owner_of(key)
  return key:match('^(.*)%-') or key
end

-- (The scope is marked, as it may be an empty text.)
local function cooldown_name(id, scope)
  return 'cooldown:' .. member(id, scope and '=' .. scope or '')
end
