-- Leases: what becomes of them, with the operations that name one.

local function end_job(row, job)
  row.ended_jobs = row.ended_jobs or {}
  row.ended_jobs[job] = true
  call('HDEL', K.jobs, job)
  remember(K.done, job, MOST_JOBS)
end

local function finish(key, row)
  for _, job in ipairs(running_jobs(row)) do end_job(row, job) end
  remember(K.tombs, key, MOST_TOMBS)
  end_row(key, row)
end

-- It is known by now whose the job is, or that it is over. Return what the last list told of it, if it did.
local function take_off_list(job)
  local text = call('HGET', K.meta, 'listed')
  if not text or not text:find(cjson.encode(job), 1, true) then return end -- which costs less than to decode it
  local listed = cjson.decode(text)
  local found = listed.jobs[job]
  listed.jobs[job] = nil
  if found then write(K.meta, 'listed', listed) end
  return found
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
local function tie(key, row, jobs, ends)
  local own = {}
  for _, job in ipairs(row.job and jobs_of(row) or jobs) do own[job] = true end
  for _, job in ipairs(jobs) do
    if not own[job] or (call('HGET', K.jobs, job) or key) ~= key then return 'taken' end
  end
  for _, job in ipairs(jobs) do take_off_list(job) end
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

-- Tie a lease to its jobs.
-- Answer  "bound", "over", "lost" or "taken"
local function bind(key, job_ids, ttl)
  enter()
  local row = read(K.rows, key)
  return leave(row and tie(key, row, job_ids, now + ttl) or 'lost')
end

-- Move the end of a bound or ambiguous lease.
-- Answer  whether there is such a lease
local function renew(key, job_id, ttl)
  enter()
  if job_id then key = call('HGET', K.jobs, job_id) end
  local row = key and read(K.rows, key)
  if not row then return leave() end
  if row.state ~= 'held' then
    set_end(key, row, now + (ttl or row.state == 'bound' and JOB_TTL or AMBIGUOUS_TTL))
    write(K.rows, key, row)
  end
  return leave(true)
end

-- End a lease by key, or by the last job of it that runs, and leave a tombstone for its key.
-- Answer  the lease, or nil if none has ended
local function release(key, job_id)
  enter()
  if job_id then
    key = call('HGET', K.jobs, job_id)
    if not key then
      -- A callback may come twice: what ended a lease already frees no later one.
      if not remembers(K.done, job_id) then remember(K.early, job_id, MOST_JOBS) end
      take_off_list(job_id)
      return leave()
    end
  end
  local row = read(K.rows, key)
  if not row then
    remember(K.tombs, key, MOST_TOMBS)
    return leave()
  end
  if job_id and #running_jobs(row) > 1 then
    end_job(row, job_id)
    write(K.rows, key, row)
    return leave()
  end
  local owner = owner_of(key)
  local record = owner ~= OWNER and row.state ~= 'bound' and read(K.owners, owner)
  if record then
    record.ended = record.ended or {}
    table.insert(record.ended, key)
    write(K.owners, owner, record)
  end
  finish(key, row)
  return leave(gone(key, row))
end
