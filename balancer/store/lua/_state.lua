-- Stands before every script: the keys, what all calls bring along, and the rows that are true.
--
-- KEYS  the same order in every script, which may leave out those at the end that it never touches
-- ARGV  1 owner   2 its host:pid
--       3 "lease_ttl job_ttl ambiguous_ttl flags": three numbers of ms; "l" for the strategy
--         least_loaded, "o" if max_jobs can only lower (all in one, as each argument costs bytes)
--       4 "1" if the owner has never been answered yet   5 now in ms, or "" for this server's time
--       6 … what the script documents
-- Answer  {version, ms to the next end or -1, ms since the oldest bound or ambiguous lease or -1,
--          expired leases as JSON, result}
--
-- Instants are whole milliseconds, which JSON keeps exactly. Every key holds a placeholder under the
-- empty name, so that none vanishes by being empty: one that is missing was deleted or evicted.

local ROWS, HELD, OWNED, AGENDA, LOOSE, JOBS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local TOMBS, ACCOUNTS, ROOM, LINE, OWNERS, META =
  KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local ALWAYS = 12
local DONE, EARLY, TABLE = KEYS[13], KEYS[14], KEYS[15]

local OWNER, PROCESS = ARGV[1], ARGV[2]
local LEASE_TTL, JOB_TTL, AMBIGUOUS_TTL, FLAGS = ARGV[3]:match('^(%d+) (%d+) (%d+) (%a*)$')
local LEAST_LOADED, LOWER_ONLY, HELLO = FLAGS:find('l'), FLAGS:find('o'), ARGV[4] == '1'

local MEMORY = 600000 -- ms for which ended leases and released jobs are remembered
local MOST_TOMBS, MOST_JOBS = 100000, 10000
local BATCH = 50 -- ends in one call, so that none pays for thousands
local OFFER = 1000 -- ms for which a slot is reserved
local BAND = 16777216 -- see refile

local call, encode, decode = redis.call, cjson.encode, cjson.decode
local now = tonumber(ARGV[5])
if not now then
  local time = call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local expired = {}
local touched = {} -- accounts that have room, and may not have had it before this call
local seekers = {} -- owners who came into the line, and have not looked at all accounts yet

-- An optional text travels as "=text", and as "" if there is none.
local function optional(text)
  if text ~= '' then return text:sub(2) end
end

local function read(key, field)
  local text = call('HGET', key, field)
  if text and text ~= '' then return decode(text) end
end

local function write(key, field, value)
  call('HSET', key, field, encode(value))
end

-- No account's members are a prefix of another's, whatever the ids look like.
local function prefix(id)
  return #id .. ':' .. id
end

local function member(id, key)
  return prefix(id) .. ':' .. key
end

local function in_flight(id)
  local start = prefix(id)
  return call('ZLEXCOUNT', HELD, '[' .. start .. ':', '(' .. start .. ';')
end

-- A number that is higher than the last one, also after the data was lost.
local function higher(last)
  return math.max((tonumber(last) or 0) + 1, now)
end

local function concerns(pause, scope)
  return not scope or not pause.scope or pause.scope == scope
end

local function blocked(account, scope)
  for _, pause in ipairs(account.pauses or {}) do
    if concerns(pause, scope) and (pause.cooling or pause.probe) then return true end
  end
  return false
end

local function usable(account)
  return not account.broken and not account.draining
end

local function used(id, account)
  return in_flight(id) + account.external
end

local function load_of(id, account)
  return used(id, account) / account.capacity
end

-- ROOM holds the usable accounts by score: those with room by how much runs on them, BAND higher
-- those that are full, 2 * BAND higher those that a pause blocks.
local function refile(id, account)
  local live = in_flight(id)
  if usable(account) then
    local runs = live + account.external
    local score = LEAST_LOADED and runs / account.capacity or runs
    if account.pauses and blocked(account) then
      score = score + 2 * BAND
    elseif runs >= account.capacity then
      score = score + BAND
    else
      touched[id] = true
    end
    call('ZADD', ROOM, score, id)
    return
  end
  call('ZREM', ROOM, id)
  if account.draining and live == 0 then
    for _, pause in ipairs(account.pauses or {}) do
      if pause.cooling then return end
    end
    call('HDEL', ACCOUNTS, id)
  end
end

local function save_pauses(id, account, pauses)
  account.pauses = #pauses > 0 and pauses or nil
  write(ACCOUNTS, id, account)
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
    if changed then save_pauses(id, account, kept) end
  end
  refile(id, account)
end

-- `key` takes a slot: a lease, or the reservation of an owner.
local function occupy(id, account, key, scope)
  call('ZADD', HELD, 0, member(id, key))
  if account.pauses then
    for _, pause in ipairs(account.pauses) do
      if concerns(pause, scope) then pause.probe = key end
    end
    write(ACCOUNTS, id, account)
  end
  refile(id, account)
end

local function vacate(id, key, well)
  call('ZREM', HELD, member(id, key))
  local account = read(ACCOUNTS, id)
  if account then conclude(id, account, key, well) end
end
