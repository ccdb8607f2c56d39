-- Stands before the scripts that let go of leases: their process no longer keeps them.

local function set_end(key, row, ends)
  row.ends = ends
  call('ZADD', K.agenda, ends, 'lease:' .. key)
end

-- The lease becomes bound or ambiguous.
local function loosen(key, row, state, ends)
  row.state, row.state_since = state, now
  call('ZREM', K.owned, key)
  call('ZADD', K.loose, now, key)
  set_end(key, row, ends)
end

-- Answer "bound", "over" or "taken".
local function bind(key, row, job, ends)
  local other = call('HGET', K.jobs, job)
  if other and other ~= key or row.job and row.job ~= job then return 'taken' end
  if remembers(K.early, job) then
    call('ZREM', K.early, job)
    row.adverse, row.job = nil, job
    finish(key, row)
    return 'over'
  end
  call('HSET', K.jobs, job, key)
  row.job, row.missed = job, nil
  loosen(key, row, 'bound', ends)
  write(K.rows, key, row)
  local account = read(K.accounts, row.account)
  if account then conclude(row.account, account, key, true) end
  return 'bound'
end
