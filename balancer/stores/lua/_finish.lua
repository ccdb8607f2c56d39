-- Stands before the scripts that end leases, or jobs of them, as their user says.

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
