-- Move the end of a bound or ambiguous lease.
--
-- ARGV  9 key or ""   10 "=job" or ""   11 ttl in ms, or ""
-- Answer  1 if there is such a lease

local key, job, ttl = ARGV[9], optional(ARGV[10]), tonumber(ARGV[11])
enter()
if job then key = call('HGET', JOBS, job) end
local row = key and read(ROWS, key)
if not row then return leave() end
if row.state ~= 'held' then
  set_end(key, row, now + (ttl or row.state == 'bound' and JOB_TTL or AMBIGUOUS_TTL))
  write(ROWS, key, row)
end
return leave(1)
