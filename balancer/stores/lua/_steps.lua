-- Stands before every script, after the state: what ends by itself, who waits, and the way out.

local function jobs_of(row)
  return {row.job, unpack(row.other_jobs or {})}
end

-- Those of its jobs that are not over.
local function running_jobs(row)
  local jobs, ended = {}, row.ended_jobs or {}
  for _, job in ipairs(jobs_of(row)) do
    if not ended[job] then jobs[#jobs + 1] = job end
  end
  return jobs
end

local function end_row(key, row)
  call('HDEL', K.rows, key)
  if row.state == 'held' then
    call('ZREM', K.owned, key)
  else
    call('ZREM', K.loose, key)
    call('ZREM', K.timers, 'lease:' .. key)
  end
  for _, job in ipairs(running_jobs(row)) do call('HDEL', K.jobs, job) end
  vacate(row.account, key, not row.adverse)
end

local function set_end(key, row, ends)
  row.ends = ends
  call('ZADD', K.timers, ends, 'lease:' .. key)
end

-- The lease becomes bound or ambiguous.
local function loosen(key, row, state, ends)
  row.state, row.state_since = state, now
  call('ZREM', K.owned, key)
  call('ZADD', K.loose, now, key)
  set_end(key, row, ends)
end

local function gone(key, row)
  return {
    key = key, account = row.account, state = row.state, job = row.job, label = row.label,
    age = now - row.since,
  }
end

-- The score holds both exactly: places stay below PRIORITY until 2109, and 1000 * PRIORITY below 2^53.
local PRIORITY = 4398046511104 -- 2^42

local function stand_in_line(name, owner)
  if owner.wants and not owner.offer then
    call('ZADD', K.line, owner.place - (owner.priority or 0) * PRIORITY, name)
    seekers[name] = true
  end
end

local function next_place()
  local place = higher(call('HGET', K.meta, 'place'))
  call('HSET', K.meta, 'place', place)
  return place
end

-- Offers of the same moment lapse in the order in which they were made.
local function offer_name(name, owner)
  return ('offer:%016d:%s'):format(owner.offer_place, name)
end

local function end_offer(name, owner)
  if not owner.offer then return end
  local id, spaced = owner.offer, owner.spaced
  call('ZREM', K.timers, offer_name(name, owner))
  owner.offer, owner.offer_place, owner.spaced = nil, nil, nil
  vacate(id, name .. '-offer', false, spaced)
end

-- -- what ends by itself -------------------------------------------------------------------------

-- End what is due. Return whether anything was.
local function settle()
  local due = call('ZRANGEBYSCORE', K.timers, '-inf', now, 'LIMIT', 0, BATCH)
  if #due == 0 then return false end

  local ends, shown = {}, nil

  function ends.lease(key)
    local row = read(K.rows, key)
    if not row then return call('ZREM', K.timers, 'lease:' .. key) end
    expired[#expired + 1] = gone(key, row)
    end_row(key, row)
  end

  function ends.cooldown(name)
    call('ZREM', K.timers, 'cooldown:' .. name)
    local length, rest = name:match('^(%d+):(.*)$')
    local id, scope = rest:sub(1, length), optional(rest:sub(length + 2))
    local account = read(K.accounts, id)
    if not account then return end
    for _, cooldown in ipairs(account.cooldowns or {}) do
      if cooldown.scope == scope then cooldown.cooling = nil end
    end
    write(K.accounts, id, account)
    refile(id, account)
  end

  function ends.account(id)
    local account = read(K.accounts, id)
    if not account then return call('ZREM', K.timers, 'account:' .. id) end
    local limit = account.limit
    if limit and not limit.trial and limit.next_at <= now then limit.due = true end
    space(id, account, account.spaced and account.spaced > now and account.spaced or nil)
    refile(id, account)
  end

  function ends.offer(number_and_name)
    call('ZREM', K.timers, 'offer:' .. number_and_name)
    local name = number_and_name:match(':(.*)$')
    local owner = read(K.owners, name)
    if not owner then return end
    end_offer(name, owner)
    owner.place = next_place()
    stand_in_line(name, owner)
    write(K.owners, name, owner)
  end

  -- What the last list shows, told once: leases and jobs may both be many.
  local function by_account(listed)
    local named, nameless = {}, {}
    for _, job in pairs(listed.jobs) do
      if job.lease then named[job.lease] = true else nameless[job.account] = (nameless[job.account] or 0) + 1 end
    end
    return {named = named, nameless = nameless, explained = {}, at = listed.at}
  end

  -- Whether the last list shows a job that would be nobody's without this unbound lease: one that names it, or
  -- one more than other leases explain, unbound ones that were live by then, too.
  local function may_run(key, row)
    if not shown then shown = by_account(read(K.meta, 'listed') or {jobs = {}, at = 0}) end
    if shown.named[key] then return true end
    local id = row.account
    local nameless, explained = shown.nameless[id], shown.explained[id]
    if not nameless or row.since > shown.at then return false end
    if not explained then
      explained = (read(K.accounts, id) or {external = 0}).external
      each_on(id, function(other, text)
        local of = text and not shown.named[other] and cjson.decode(text)
        if of and of.state ~= 'bound' and of.since <= shown.at then explained = explained + 1 end
      end)
    end
    local shows = nameless >= explained
    shown.explained[id] = shows and explained or explained - 1 -- else it ends
    return shows
  end

  -- A dead owner. Its entry stays as long as there are leases of it to end.
  function ends.owner(name)
    local owner = read(K.owners, name)
    if owner then
      end_offer(name, owner)
      call('ZREM', K.line, name)
      seekers[name] = nil
      call('HDEL', K.owners, name)
    end
    local keys = call('ZRANGEBYLEX', K.owned, '[' .. name .. '-', '(' .. name .. '.', 'LIMIT', 0, BATCH)
    for _, key in ipairs(keys) do
      if #expired >= BATCH then return end
      local row = read(K.rows, key)
      if row then
        row.adverse = true -- its account is no better for that
        if may_run(key, row) then
          end_trial(row.account, read(K.accounts, row.account), key)
          row.orphaned = true
          loosen(key, row, 'ambiguous', now + AMBIGUOUS_TTL)
          write(K.rows, key, row)
        else
          expired[#expired + 1] = gone(key, row)
          end_row(key, row)
        end
      else
        call('ZREM', K.owned, key)
      end
    end
    if #keys < BATCH then call('ZREM', K.timers, 'owner:' .. name) end
  end

  function ends.grace()
    call('ZREM', K.timers, 'grace:')
    call('HDEL', K.meta, 'closed', 'quiet')
    closed = nil
    for _, name in ipairs(call('ZRANGEBYSCORE', K.line, '-inf', '(inf')) do seekers[name] = true end
  end

  local owners = {} -- last: by then it is known which leases explain a job
  for _, name in ipairs(due) do
    if #expired >= BATCH then break end
    local colon = name:find(':', 1, true)
    local what, rest = name:sub(1, colon - 1), name:sub(colon + 1)
    if what == 'owner' then owners[#owners + 1] = rest else ends[what](rest) end
  end
  for _, name in ipairs(owners) do
    if #expired >= BATCH then break end
    ends.owner(name)
  end
  return true
end

-- -- the way in ----------------------------------------------------------------------------------

local GRACE = 3000 -- ms to say what one holds, once all are asked: more than one rests who lost the connection

-- Return how many listen.
local function ask_all()
  return call('PUBLISH', K.rows:sub(1, -5) .. 'roll', '')
end

-- Have nothing granted until then.
local function close_until(ends)
  call('HSET', K.meta, 'closed', ends)
  call('ZADD', K.timers, ends, 'grace:')
end

-- Return what names this run of the server, and for how many ms it runs; nothing if the user may not ask.
local function server_now()
  local info = redis.pcall('INFO', 'server')
  if type(info) == 'string' then
    -- (It is counted by the wall clock: below 0 after that was set back.)
    return info:match('run_id:(%x+)'), 1000 * (info:match('uptime_in_seconds:(%d+)') or 0)
  end
end

-- An account that has leases, and that nothing else is known of.
local function take_in(id)
  if call('HEXISTS', K.accounts, id) == 0 then
    local external = (read(K.meta, 'external') or {})[id] or 0
    write(K.accounts, id, {capacity = 1, external = external, draining = '{}'})
  end
end

-- The leases are lost, or there never were any. Nothing is granted until each process has had the time to
-- say what it holds, if anything speaks for an earlier life: the caller has been here before, somebody
-- listens, or those who did are still on their way back to a server that has just started.
local function call_the_roll(up)
  local before = ask_all() > 0 or ARGV[4] ~= ''
  if before then return close_until(now + GRACE) end
  if ARGV[5] == '' and up < GRACE then close_until(now + GRACE - up) end
end

local function for_each(key, act)
  local flat = call('HGETALL', key)
  for i = 1, #flat, 2 do
    if flat[i] ~= '' then act(flat[i], cjson.decode(flat[i + 1])) end
  end
end

-- Whatever can be derived from the rows is derived again, and the rest is begun anew.
local function repair()
  local lost = call('EXISTS', K.rows) == 0
  if call('EXISTS', K.accounts, K.meta) < 2 then call('DEL', K.accounts, K.meta) end
  if lost then call('DEL', K.owners) end
  call('DEL', K.held, K.owned, K.timers, K.loose, K.jobs, K.room, K.line)
  for _, key in ipairs({K.rows, K.jobs, K.accounts, K.owners, K.meta}) do call('HSET', key, '', '') end
  for _, key in ipairs({K.timers, K.loose, K.tombs, K.room, K.line}) do call('ZADD', key, '+inf', '') end
  for _, key in ipairs({K.held, K.owned}) do call('ZADD', key, 0, '') end
  for_each(K.rows, function(key, row)
    take_in(row.account)
    call('ZADD', K.held, 0, member(row.account, key))
    for _, job in ipairs(running_jobs(row)) do call('HSET', K.jobs, job, key) end
    if row.state == 'held' then
      call('ZADD', K.owned, 0, key)
      call('ZADD', K.timers, now + LEASE_TTL, 'owner:' .. owner_of(key))
    else
      call('ZADD', K.loose, row.state_since, key)
      call('ZADD', K.timers, row.ends, 'lease:' .. key)
    end
  end)
  for_each(K.accounts, function(id, account)
    for _, cooldown in ipairs(account.cooldowns or {}) do
      if cooldown.cooling then call('ZADD', K.timers, cooldown.ends, cooldown_name(id, cooldown.scope)) end
      if cooldown.probe and call('HEXISTS', K.rows, cooldown.probe) == 0 then cooldown.probe = nil end
    end
    local limit = account.limit
    if limit then
      if limit.trial and call('HEXISTS', K.rows, limit.trial) == 0 then limit.trial = nil end
      limit.next_at = math.min(limit.next_at, now + limit.wait)
    end
    retime(id, account)
    write(K.accounts, id, account)
    refile(id, account)
  end)
  for_each(K.owners, function(name, owner)
    owner.offer, owner.offer_place, owner.spaced = nil, nil, nil
    call('ZADD', K.timers, now + (owner.ttl or LEASE_TTL), 'owner:' .. name)
    stand_in_line(name, owner)
    write(K.owners, name, owner)
  end)
  local server, up = server_now()
  if server then call('HSET', K.meta, 'server', server) end
  local ends = call('HGET', K.meta, 'closed')
  if ends then close_until(math.min(ends, now + GRACE)) end
  if lost then call_the_roll(up or 0) end
end

-- Who is silent is not dead if nobody was heard: the store may have been away, or its clock have stepped. All
-- are asked, and those whose time is up are given the time to answer. (A clock that is put right was wrong for
-- nobody knows how long: calls that waited in front of a stopped server put it right step by step.)
local function after_silence(gap)
  local late, silent = call('ZRANGEBYSCORE', K.timers, '-inf', now + GRACE), false
  for _, entry in ipairs(late) do
    local name = entry:match('^owner:(.*)$')
    if name and name ~= OWNER then
      local owner = read(K.owners, name)
      local keys = call('ZRANGEBYLEX', K.owned, '[' .. name .. '-', '(' .. name .. '.', 'LIMIT', 0, 1)
      if #keys > 0 and gap > (owner and owner.ttl or LEASE_TTL) / 2 then
        call('ZADD', K.timers, now + GRACE, entry)
        silent = true
      end
    end
  end
  if not silent then return end
  for _, entry in ipairs(late) do
    if entry:find('^lease:') then call('ZADD', K.timers, now + GRACE, entry) end
  end
  call('HSET', K.meta, 'quiet', heard)
  ask_all()
  close_until(now + GRACE)
end

-- Of pools that were made with different settings those of the one that came first rule, as long as it lives.
local function rule()
  if RULING and not MIXED then return end
  if RULING and call('HEXISTS', K.owners, call('HGET', K.meta, 'ruler') or '') == 1 then return end
  call('HSET', K.meta, 'settings', SETTINGS, 'ruler', OWNER)
  if not RULING then return end
  FLAGS, MIXED = SETTINGS:match('(%a*)$'), false
  LEAST_LOADED = FLAGS:find('l')
  for_each(K.accounts, refile)
end

-- Keys go away by themselves a day after the last use, and after the last end that is to come. (The table is
-- given to few scripts, and may be good for long.)
local function keep_keys()
  local last = call('ZREVRANGEBYSCORE', K.timers, '(inf', '-inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  local life = math.max((tonumber(last) or now) - now, 0) + DAY
  for _, key in ipairs(KEYS) do
    call('PEXPIRE', key, ('%d'):format(key == K.table and 40 * DAY or life))
  end
end

local function mend()
  local whole = call('EXISTS', unpack(KEYS, 1, 12)) == 12
  if not whole then repair() end
  if not whole or stepped or not heard or now - heard >= math.min(1000, LEASE_TTL / 8) then
    if whole and heard and ARGV[5] == '' then after_silence(stepped and math.huge or now - heard) end
    call('HSET', K.meta, 'heard', now, 'skew', skew)
    if stepped then
      call('HDEL', K.meta, 'quiet')
      if known[2] then close_until(now + GRACE) end -- until when was said by the clock that was wrong
    end
    rule()
    keep_keys()
    known = call('HMGET', K.meta, 'version', 'closed')
  end
  version, closed = tonumber(known[1]) or 0, tonumber(known[2])
  if closed and closed > now + GRACE then
    closed = now + GRACE
    close_until(closed)
  end
end

-- Return the record of the caller, who lives. One who is late, but not missed yet, is forgiven.
local function enter()
  mend()
  local life, name = now + LEASE_TTL, 'owner:' .. OWNER
  local me = read(K.owners, OWNER)
  if me then
    call('ZADD', K.timers, life, name)
    if not settle() then return me end
  else
    settle()
    call('ZADD', K.timers, life, name)
  end
  me = read(K.owners, OWNER)
  if not me then
    me = {process = ARGV[2], ttl = tonumber(LEASE_TTL), forgotten = ARGV[4] ~= '' or nil}
    write(K.owners, OWNER, me)
  end
  return me
end

-- -- the way out ---------------------------------------------------------------------------------

-- Offer free slots to waiting processes, in the order of the line.
local function offer()
  if closed or not next(touched) and not next(seekers) then return end
  if call('ZCARD', K.line) == 1 then return end -- the placeholder

  local function has_room(id)
    local score = call('ZSCORE', K.room, id)
    return score and tonumber(score) < BAND
  end

  local function reserve(name, owner, id)
    owner.offer, owner.offer_place, owner.spaced = id, next_place(), SPACED
    write(K.owners, name, owner)
    call('ZREM', K.line, name)
    call('ZADD', K.timers, now + OFFER, offer_name(name, owner))
    occupy(id, read(K.accounts, id), name .. '-offer', nil, SPACED and OFFER)
    call('PUBLISH', K.rows:sub(1, -5) .. 'offers:' .. name, id)
  end

  -- An owner in line who was there before this call can only want what was touched by it.
  local function look_for(name, text, owner)
    if not seekers[name] then
      for id in pairs(touched) do
        if (owner.wants == 'any' or text:find(cjson.encode(id), 1, true)) and has_room(id) then
          if owner.wants == 'any' then return id end
          for _, wanted in ipairs(owner.wants) do
            if wanted == id then return id end
          end
        end
      end
    elseif owner.wants == 'any' then
      local free = call('ZCOUNT', K.room, '-inf', '(' .. BAND)
      if free > 0 then return call('ZRANGE', K.room, now % free, now % free)[1] end
    else
      for _, id in ipairs(owner.wants) do
        if has_room(id) then return id end
      end
    end
  end

  for _, name in ipairs(call('ZRANGEBYSCORE', K.line, '-inf', '(inf')) do
    local free = call('ZRANGE', K.room, 0, 0, 'WITHSCORES')
    if tonumber(free[2]) >= BAND then return end
    local text = call('HGET', K.owners, name)
    local owner = cjson.decode(text)
    local id = look_for(name, text, owner)
    if id then reserve(name, owner, id) end
  end
end

local function leave(result)
  offer()
  local due = tonumber(call('ZRANGE', K.timers, 0, 0, 'WITHSCORES')[2])
  local loose = -1
  if call('ZCARD', K.loose) > 1 then
    loose = math.max(0, now - call('ZRANGE', K.loose, 0, 0, 'WITHSCORES')[2])
  end
  return cjson.encode({
    version,
    due < math.huge and math.max(0, due - now) or -1,
    loose,
    expired,
    result or cjson.null,
    now,
    MIXED and RULING or nil,
    learned,
  })
end
