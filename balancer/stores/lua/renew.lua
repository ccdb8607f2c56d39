-- Move the end of a bound or ambiguous lease.
--
-- ARGV  6 "=key" or ""   7 "=job" or ""   8 ttl in ms, or ""
-- Answer  1 if there is such a lease

local key, job, ttl = optional(ARGV[6]), optional(ARGV[7]), tonumber(ARGV[8])
enter()
if job then key = call('HGET', K.jobs, job) end
local row = key and read(K.rows, key)
if not row then return leave() end
if row.state ~= 'held' then
  set_end(key, row, now + (ttl or row.state == 'bound' and JOB_TTL or AMBIGUOUS_TTL))
  write(K.rows, key, row)
end
return leave(1)
