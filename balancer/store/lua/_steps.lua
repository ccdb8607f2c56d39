-- Stands before every script, after the state: what ends by itself, who waits, and the way out.

-- (the scope is marked, as it may be an empty text)
local function pause_name(id, scope)
  return 'pause:' .. member(id, scope and '=' .. scope or '')
end

local function owner_of(key)
  return key:match('^(.*)%-') or key
end

-- -- leases --------------------------------------------------------------------------------------

local function set_end(key, row, ends)
  row.ends = ends
  call('ZADD', AGENDA, ends, 'lease:' .. key)
end

-- Bound or ambiguous: the process no longer keeps the lease.
local function loosen(key, row, state, ends)
  row.state, row.state_since = state, now
  call('ZREM', OWNED, key)
  call('ZADD', LOOSE, now, key)
  set_end(key, row, ends)
end

local function end_row(key, row)
  call('HDEL', ROWS, key)
  if row.state == 'held' then
    call('ZREM', OWNED, key)
  else
    call('ZREM', LOOSE, key)
    call('ZREM', AGENDA, 'lease:' .. key)
  end
  if row.job and call('HGET', JOBS, row.job) == key then call('HDEL', JOBS, row.job) end
  vacate(row.account, key, not row.adverse)
end

local function gone(key, row)
  return encode({
    key = key, account = row.account, state = row.state, job = row.job, label = row.label,
    age = now - row.since,
  })
end

local function remember(memory, name, most)
  call('ZADD', memory, now, name)
  local over = call('ZCARD', memory) - most
  local old = call('ZRANGEBYSCORE', memory, '-inf', now - MEMORY, 'LIMIT', 0, BATCH)
  if #old > 0 then call('ZREM', memory, unpack(old)) end
  if over > #old then call('ZREMRANGEBYRANK', memory, 0, over - #old - 1) end
end

local function remembers(memory, name)
  local since = call('ZSCORE', memory, name)
  return since and tonumber(since) > now - MEMORY
end

local function bury(key)
  remember(TOMBS, key, MOST_TOMBS)
end

-- The job of a lease is over, as its user says.
local function finish(key, row)
  if row.job then remember(DONE, row.job, MOST_JOBS) end
  bury(key)
  end_row(key, row)
end

-- Answer "bound", "over" or "taken".
local function bind(key, row, job, ends)
  local other = call('HGET', JOBS, job)
  if other and other ~= key or row.job and row.job ~= job then return 'taken' end
  if remembers(EARLY, job) then
    call('ZREM', EARLY, job)
    row.adverse, row.job = nil, job
    finish(key, row)
    return 'over'
  end
  call('HSET', JOBS, job, key)
  row.job, row.missed = job, nil
  loosen(key, row, 'bound', ends)
  write(ROWS, key, row)
  local account = read(ACCOUNTS, row.account)
  if account then conclude(row.account, account, key, true) end
  return 'bound'
end

-- -- waiting processes ---------------------------------------------------------------------------

local function stand_in_line(name, owner)
  if owner.wants and not owner.offer then
    call('ZADD', LINE, owner.place, name)
    seekers[name] = true
  end
end

local function to_the_back(owner)
  owner.place = higher(call('HGET', META, 'place'))
  call('HSET', META, 'place', owner.place)
end

local function end_offer(name, owner)
  if not owner.offer then return end
  local id = owner.offer
  owner.offer = nil
  call('ZREM', AGENDA, 'offer:' .. name)
  vacate(id, 'offer:' .. name, false)
end

-- `wants` is a JSON list of account ids, empty for any; "" leaves the line.
local function set_wants(name, owner, wants)
  if wants == '' then
    end_offer(name, owner)
    owner.wants, owner.place = nil, nil
    call('ZREM', LINE, name)
    return
  end
  owner.wants = wants == '[]' and 'any' or decode(wants)
  if not owner.place then to_the_back(owner) end
  stand_in_line(name, owner)
end

local function has_room(id)
  local score = call('ZSCORE', ROOM, id)
  return score and tonumber(score) < BAND
end

local function reserve(name, owner, id)
  owner.offer = id
  write(OWNERS, name, owner)
  call('ZREM', LINE, name)
  call('ZADD', AGENDA, now + OFFER, 'offer:' .. name)
  occupy(id, read(ACCOUNTS, id), 'offer:' .. name)
  call('PUBLISH', ROWS:sub(1, -5) .. 'offers:' .. name, id)
end

-- An owner in line who was there before this call can only want what was touched by it.
local function look_for(name, text, owner)
  if not seekers[name] then
    for id in pairs(touched) do
      if (owner.wants == 'any' or text:find(encode(id), 1, true)) and has_room(id) then
        if owner.wants == 'any' then return id end
        for _, wanted in ipairs(owner.wants) do
          if wanted == id then return id end
        end
      end
    end
  elseif owner.wants == 'any' then
    local free = call('ZCOUNT', ROOM, '-inf', '(' .. BAND)
    if free > 0 then return call('ZRANGE', ROOM, now % free, now % free)[1] end
  else
    for _, id in ipairs(owner.wants) do
      if has_room(id) then return id end
    end
  end
end

-- Offer free slots to waiting processes, the oldest first.
local function offer()
  if not next(touched) and not next(seekers) then return end
  local line = call('ZRANGEBYSCORE', LINE, '-inf', '(inf')
  for _, name in ipairs(line) do
    local free = call('ZRANGE', ROOM, 0, 0, 'WITHSCORES')
    if tonumber(free[2]) >= BAND then return end
    local text = call('HGET', OWNERS, name)
    local owner = decode(text)
    local id = look_for(name, text, owner)
    if id then reserve(name, owner, id) end
  end
end

-- -- what ends by itself -------------------------------------------------------------------------

local ends = {}

function ends.lease(key)
  local row = read(ROWS, key)
  if not row then return call('ZREM', AGENDA, 'lease:' .. key) end
  expired[#expired + 1] = gone(key, row)
  end_row(key, row)
end

function ends.pause(name)
  call('ZREM', AGENDA, 'pause:' .. name)
  local length, rest = name:match('^(%d+):(.*)$')
  local id, scope = rest:sub(1, length), optional(rest:sub(length + 2))
  local account = read(ACCOUNTS, id)
  if not account then return end
  for _, pause in ipairs(account.pauses or {}) do
    if pause.scope == scope then pause.cooling = nil end
  end
  write(ACCOUNTS, id, account)
  refile(id, account)
end

function ends.offer(name)
  call('ZREM', AGENDA, 'offer:' .. name)
  local owner = read(OWNERS, name)
  if not owner then return end
  end_offer(name, owner)
  to_the_back(owner)
  stand_in_line(name, owner)
  write(OWNERS, name, owner)
end

-- A dead owner. Its entry stays as long as there are leases of it to end.
function ends.owner(name)
  local owner = read(OWNERS, name)
  if owner then
    end_offer(name, owner)
    call('ZREM', LINE, name)
    seekers[name] = nil
    call('HDEL', OWNERS, name)
  end
  local keys = call('ZRANGEBYLEX', OWNED, '[' .. name .. '-', '(' .. name .. '.', 'LIMIT', 0, BATCH)
  for _, key in ipairs(keys) do
    if #expired >= BATCH then return end
    local row = read(ROWS, key)
    if row then
      expired[#expired + 1] = gone(key, row)
      end_row(key, row)
    else
      call('ZREM', OWNED, key)
    end
  end
  if #keys < BATCH then call('ZREM', AGENDA, 'owner:' .. name) end
end

local function settle()
  local due = call('ZRANGEBYSCORE', AGENDA, '-inf', now, 'LIMIT', 0, BATCH)
  for _, name in ipairs(due) do
    if #expired >= BATCH then return end
    local colon = name:find(':', 1, true)
    ends[name:sub(1, colon - 1)](name:sub(colon + 1))
  end
end

-- -- the way in and the way out ------------------------------------------------------------------

-- Whatever can be derived from the rows is derived again, and the rest is begun anew.
local function repair()
  if call('EXISTS', ACCOUNTS, META) < 2 then call('DEL', ACCOUNTS, META) end
  if call('EXISTS', ROWS) == 0 then call('DEL', OWNERS) end
  call('DEL', HELD, OWNED, AGENDA, LOOSE, JOBS, ROOM, LINE)
  for _, key in ipairs({ROWS, JOBS, ACCOUNTS, OWNERS, META}) do call('HSET', key, '', '') end
  for _, key in ipairs({AGENDA, LOOSE, TOMBS, ROOM, LINE}) do call('ZADD', key, '+inf', '') end
  for _, key in ipairs({HELD, OWNED}) do call('ZADD', key, 0, '') end
  local rows = call('HGETALL', ROWS)
  for i = 1, #rows, 2 do
    local key, row = rows[i], rows[i + 1] ~= '' and decode(rows[i + 1])
    if row then
      call('ZADD', HELD, 0, member(row.account, key))
      if row.job then call('HSET', JOBS, row.job, key) end
      if row.state == 'held' then
        call('ZADD', OWNED, 0, key)
        call('ZADD', AGENDA, now + LEASE_TTL, 'owner:' .. owner_of(key))
      else
        call('ZADD', LOOSE, row.state_since, key)
        call('ZADD', AGENDA, row.ends, 'lease:' .. key)
      end
    end
  end
  local accounts = call('HGETALL', ACCOUNTS)
  for i = 1, #accounts, 2 do
    local id, account = accounts[i], accounts[i + 1] ~= '' and decode(accounts[i + 1])
    if account then
      for _, pause in ipairs(account.pauses or {}) do
        if pause.cooling then call('ZADD', AGENDA, pause.ends, pause_name(id, pause.scope)) end
        if pause.probe and call('HEXISTS', ROWS, pause.probe) == 0 then pause.probe = nil end
      end
      write(ACCOUNTS, id, account)
      refile(id, account)
    end
  end
  local owners = call('HGETALL', OWNERS)
  for i = 1, #owners, 2 do
    local name, owner = owners[i], owners[i + 1] ~= '' and decode(owners[i + 1])
    if owner then
      owner.offer = nil
      call('ZADD', AGENDA, now + LEASE_TTL, 'owner:' .. name)
      stand_in_line(name, owner)
      write(OWNERS, name, owner)
    end
  end
end

-- Return the record of the caller, who lives, and whether it was known. A caller who is late, but
-- not missed yet, is forgiven; not so if it asks about just that.
local function enter(strictly)
  local keys = {}
  for i = 1, ALWAYS do keys[i] = KEYS[i] end
  if call('EXISTS', unpack(keys)) < ALWAYS then repair() end
  local life, name = now + LEASE_TTL, 'owner:' .. OWNER
  if not strictly then call('ZADD', AGENDA, 'XX', life, name) end
  settle()
  call('ZADD', AGENDA, life, name)
  local me = read(OWNERS, OWNER)
  if me then return me, true end
  me = {process = PROCESS, forgotten = not HELLO or nil}
  write(OWNERS, OWNER, me)
  return me, false
end

local function leave(result)
  offer()
  local due = tonumber(call('ZRANGE', AGENDA, 0, 0, 'WITHSCORES')[2])
  local loose = tonumber(call('ZRANGE', LOOSE, 0, 0, 'WITHSCORES')[2])
  return {
    tonumber(call('HGET', META, 'version')) or 0,
    due < math.huge and math.max(0, due - now) or -1,
    loose < math.huge and math.max(0, now - loose) or -1,
    expired,
    result or false,
  }
end
