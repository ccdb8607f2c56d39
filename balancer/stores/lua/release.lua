-- End a lease by key, or by the last job of it that runs, and leave a tombstone for its key.
--
-- ARGV  6 "=key" or ""   7 "=job" or ""
-- Answer  the lease, or nil if none has ended

local key, job = optional(ARGV[6]), optional(ARGV[7])
enter()
if job then
  key = call('HGET', K.jobs, job)
  if not key then
    -- A callback may come twice: what ended a lease already frees no later one.
    if not remembers(K.done, job) then remember(K.early, job, MOST_JOBS) end
    return leave()
  end
end
local row = read(K.rows, key)
if not row then
  remember(K.tombs, key, MOST_TOMBS)
  return leave()
end
if job and #running_jobs(row) > 1 then
  end_job(row, job)
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
