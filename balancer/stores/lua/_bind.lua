-- Stands before the scripts that let go of leases: their process no longer keeps them.

local FIRST_WAIT, LONGEST_WAIT = 60000, 7200000 -- ms from one trial of a limit to the next

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

-- It is known by now that the account bears so many jobs.
local function note_limit(id, account, jobs, raised)
  learned = learned or {}
  learned[#learned + 1] = {id, jobs, account.capacity, raised}
end

-- The account took the job: if this lease is a probe or a trial, it went well.
local function accept(key, row, account)
  row.accepted, row.declined = true, nil
  if not account then return end
  local id, limit = row.account, account.limit
  if limit and limit.trial == key then
    local jobs = limit.jobs + 1
    account.limit = jobs < account.capacity and {jobs = jobs, next_at = now + FIRST_WAIT, wait = FIRST_WAIT} or nil
    note_limit(id, account, jobs, 1)
    retime(id, account)
    write(K.accounts, id, account)
  end
  conclude(id, account, key, true)
end

-- Answer "bound", "over" or "taken".
local function bind(key, row, jobs, ends)
  local own = {}
  for _, job in ipairs(row.job and jobs_of(row) or jobs) do own[job] = true end
  for _, job in ipairs(jobs) do
    if not own[job] or (call('HGET', K.jobs, job) or key) ~= key then return 'taken' end
  end
  if not row.job then row.job, row.other_jobs = jobs[1], jobs[2] and {unpack(jobs, 2)} end
  for _, job in ipairs(running_jobs(row)) do
    if remembers(K.early, job) then
      call('ZREM', K.early, job)
      end_job(row, job)
    else
      call('HSET', K.jobs, job, key)
    end
  end
  accept(key, row, read(K.accounts, row.account))
  if #running_jobs(row) == 0 then
    finish(key, row)
    return 'over'
  end
  row.missed = nil
  loosen(key, row, 'bound', ends)
  write(K.rows, key, row)
  return 'bound'
end
