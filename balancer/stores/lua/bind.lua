-- Tie a lease to its jobs.
--
-- ARGV  6 key   7 ttl in ms   8 … its jobs
-- Answer  "bound", "over", "lost" or "taken"

local key = ARGV[6]
enter()
local row = read(K.rows, key)
return leave(row and bind(key, row, {unpack(ARGV, 8)}, now + tonumber(ARGV[7])) or 'lost')
