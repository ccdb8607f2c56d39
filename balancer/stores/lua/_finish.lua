-- Stands before the scripts that end leases.

-- The job of a lease is over, as its user says.
local function finish(key, row)
  if row.job then remember(K.done, row.job, MOST_JOBS) end
  remember(K.tombs, key, MOST_TOMBS)
  end_row(key, row)
end
