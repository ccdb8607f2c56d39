-- Tie a lease to its jobs.
--
-- ARGV  6 key   7 JSON list of its jobs   8 ttl in ms
-- Answer  "bound", "over", "lost" or "taken"

local key = ARGV[6]
enter()
local row = read(K.rows, key)
return leave(row and bind(key, row, cjson.decode(ARGV[7]), now + tonumber(ARGV[8])) or 'lost')
