-- End a lease by key or by job, and leave a tombstone for its key.
--
-- ARGV  6 key or ""   7 "=job" or ""
-- Answer  the lease as JSON, or nil

local key, job = ARGV[6], optional(ARGV[7])
enter()
if job then
  key = call('HGET', JOBS, job)
  if not key then
    remember(EARLY, job, MOST_JOBS)
    return leave()
  end
end
local row = read(ROWS, key)
if not row then
  bury(key)
  return leave()
end
local owner = owner_of(key)
if owner ~= OWNER and row.state == 'held' then
  local record = read(OWNERS, owner)
  if record then
    record.ended = record.ended or {}
    table.insert(record.ended, key)
    write(OWNERS, owner, record)
  end
end
finish(key, row)
return leave(gone(key, row))
