-- Tie a lease to its job.
--
-- ARGV  9 key   10 job   11 ttl in ms
-- Answer  "bound", "over", "lost" or "taken"

local key = ARGV[9]
enter()
local row = read(ROWS, key)
return leave(row and bind(key, row, ARGV[10], now + tonumber(ARGV[11])) or 'lost')
