-- Stands before every script, after the base: the rows that are true, and what runs on an account.

local version, closed -- of the table in force, and until when nothing is granted: nil if there is none
local expired = {}
local touched = {} -- accounts that have room, and may not have had it before this call
local seekers = {} -- owners who came into the line, and have not looked at all accounts yet

-- An optional text travels as "=text", and as "" if there is none.
local function optional(text)
  if text ~= '' then return text:sub(2) end
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

-- A number that is higher than the last one, also after the data was lost.
local function higher(last)
  return math.max((tonumber(last) or 0) + 1, now)
end

-- Whether one of the pauses that concern a job of `scope` keeps jobs away; without scope all do.
local function blocked(account, scope)
  for _, pause in ipairs(account.pauses or {}) do
    if (pause.cooling or pause.probe) and (not scope or not pause.scope or pause.scope == scope) then
      return true
    end
  end
  return false
end

-- K.room holds the usable accounts by score: those with room by how much runs on them, BAND higher
-- those that are full, 2 * BAND higher those that a pause blocks.
local function refile(id, account)
  local live = in_flight(id)
  if not account.broken and not account.draining then
    local runs = live + account.external
    local score = LEAST_LOADED and runs / account.capacity or runs
    if account.pauses and blocked(account) then
      score = score + 2 * BAND
    elseif runs >= account.capacity then
      score = score + BAND
    else
      touched[id] = true
    end
    call('ZADD', K.room, score, id)
    return
  end
  call('ZREM', K.room, id)
  if account.draining and live == 0 then
    for _, pause in ipairs(account.pauses or {}) do
      if pause.cooling then return end
    end
    call('HDEL', K.accounts, id)
  end
end

-- The lease `key` is over, or its job was accepted: if it probed, the probing ends with it.
local function conclude(id, account, key, well)
  if account.pauses then
    local kept, changed = {}, false
    for _, pause in ipairs(account.pauses) do
      local probed = pause.probe == key
      changed = changed or probed
      if probed then pause.probe = nil end
      if not (probed and well and not pause.cooling) then kept[#kept + 1] = pause end
    end
    if changed then
      account.pauses = #kept > 0 and kept or nil
      write(K.accounts, id, account)
    end
  end
  refile(id, account)
end

-- `key` takes a slot: a lease, or the reservation of an owner.
local function occupy(id, account, key, scope)
  call('ZADD', K.held, 0, member(id, key))
  if account.pauses then
    for _, pause in ipairs(account.pauses) do
      if not scope or not pause.scope or pause.scope == scope then pause.probe = key end
    end
    write(K.accounts, id, account)
  end
  refile(id, account)
end

local function vacate(id, key, well)
  call('ZREM', K.held, member(id, key))
  local account = read(K.accounts, id)
  if account then conclude(id, account, key, well) end
end

local function owner_of(key)
  return key:match('^(.*)%-') or key
end

-- (The scope is marked, as it may be an empty text.)
local function pause_name(id, scope)
  return 'pause:' .. member(id, scope and '=' .. scope or '')
end
