-- What the store holds, as it is.

-- Read the table in force.
-- Answer  {age: ms since it was fetched, table: {id, description, id, …}}, or nil
local function read_table()
  enter()
  if version_in_force() == 0 then return leave() end
  return leave({age = now - (read_claim('fetch').done_at or now), table = call('HGETALL', K.table)})
end

-- Read everything.
-- Answer  {rows, accounts, table, owners, done: released jobs with the instant, JSON of external jobs}
local function read_all()
  enter()
  version_in_force()
  local past = call('ZRANGEBYSCORE', K.done, '(' .. now - MEMORY, '+inf', 'WITHSCORES')
  return leave({
    rows = call('HGETALL', K.rows), accounts = call('HGETALL', K.accounts), table = call('HGETALL', K.table),
    owners = call('HGETALL', K.owners), done = past, external = call('HGET', K.meta, 'external') or nil,
  })
end

-- Read what is held of some accounts, and no more however many there are.
-- Answer  {rows: leases on them, accounts, table: their descriptions, offers = {id = reserved slots},
--          detached: how many leases are bound or ambiguous, next_end: ms to the first that ends of those and of
--          cooldowns, or that changes of an account, closed: ms for which nothing is granted}
local function read_some(ids)
  local rows, accounts, described, offers = {}, {}, {}, {}

  local function add(list, name, text)
    if text then
      list[#list + 1] = name
      list[#list + 1] = text
    end
  end

  enter()
  version_in_force()
  for _, id in ipairs(ids) do
    add(accounts, id, call('HGET', K.accounts, id))
    add(described, id, call('HGET', K.table, id))
    each_on(id, function(key, row)
      if row then add(rows, key, row) else offers[id] = (offers[id] or 0) + 1 end
    end)
  end
  local first
  for _, entry in ipairs(call('ZRANGEBYSCORE', K.timers, '-inf', '(inf', 'LIMIT', 0, BATCH)) do
    if entry:find('^lease:') or entry:find('^cooldown:') or entry:find('^account:') then
      first = math.max(0, call('ZSCORE', K.timers, entry) - now)
      break
    end
  end
  return leave({
    rows = rows, accounts = accounts, table = described, offers = offers,
    detached = call('ZCARD', K.loose) - 1, next_end = first, closed = closed and closed - now or nil,
  })
end
