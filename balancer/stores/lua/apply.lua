-- What the server's list of jobs means.

local ended = {}

local function set_external(external)
  local old = read(K.meta, 'external') or {}
  for id in pairs(external) do old[id] = old[id] or 0 end
  for id in pairs(old) do
    local account = read(K.accounts, id)
    if account then
      account.external = external[id] or 0
      write(K.accounts, id, account)
      refile(id, account)
    end
  end
  write(K.meta, 'external', external)
end

-- Return the jobs by id; nothing, if a lease that one names is gone and nobody has ended it.
local function by_id(listed)
  local jobs = {}
  for _, job in ipairs(listed) do
    local id, account, lease = unpack(job)
    if lease ~= '' and call('HEXISTS', K.rows, lease) == 0 and not remembers(K.tombs, lease) then return end
    jobs[id] = {account = account, lease = lease ~= '' and lease or nil}
  end
  return jobs
end

local function each(keys, state, act)
  for _, key in ipairs(keys) do
    local row = read(K.rows, key)
    if row and row.state == state then act(key, row) end
  end
end

local function over(key, row)
  ended[#ended + 1] = key
  remember(K.tombs, key, MOST_TOMBS)
  end_row(key, row)
end

local function prolong(key, row)
  if row.ends < now + JOB_TTL then set_end(key, row, now + JOB_TTL) end
  write(K.rows, key, row)
end

-- Put into effect what the server's list means, and give the claim back.
-- `external` is {id = jobs of others}, `to_bind` {{key, job}}, `listed` {{job, account, key or ""}} of those that no
-- lease is bound to, `missed` {key = lists that its job is missing from}; the others are lists of keys.
-- Answer  the keys that ended, or nil if nothing was done
local function apply(number, external, to_bind, to_prolong, to_reclaim, to_resolve, listed, age, missed)
  enter()
  local claim, jobs = valid('survey', number), by_id(listed)
  if not claim or not jobs then return leave() end
  set_external(external)
  write(K.meta, 'listed', {at = now - age, jobs = jobs})
  for _, pair in ipairs(to_bind) do
    each({pair[1]}, 'ambiguous', function(key, row)
      if tie(key, row, {pair[2]}, now + JOB_TTL) == 'over' then ended[#ended + 1] = key end
    end)
  end
  each(to_prolong, 'bound', prolong)
  for key, lists in pairs(missed) do
    each({key}, 'bound', function(_, row)
      row.missed = lists
      write(K.rows, key, row)
    end)
  end
  each(to_reclaim, 'bound', over)
  each(to_resolve, 'ambiguous', over)
  done('survey', claim)
  return leave(ended)
end
