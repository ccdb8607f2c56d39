-- Tie a lease to its job.
--
-- ARGV  10 key   11 job   12 ttl in ms
-- Answer  "bound", "over", "lost" or "taken"

local key = ARGV[10]
enter()
local row = read(ROWS, key)
return leave(row and bind(key, row, ARGV[11], now + tonumber(ARGV[12])) or 'lost')
