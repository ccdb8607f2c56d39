-- Tie a lease to its job.
--
-- ARGV  6 key   7 job   8 ttl in ms
-- Answer  "bound", "over", "lost" or "taken"

local key = ARGV[6]
enter()
local row = read(K.rows, key)
return leave(row and bind(key, row, ARGV[7], now + tonumber(ARGV[8])) or 'lost')
