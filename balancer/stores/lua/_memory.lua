-- Stands before the scripts that tell, or ask, what has ended.

local MOST_TOMBS, MOST_JOBS = 100000, 10000

local function remember(memory, name, most)
  call('ZADD', memory, now, name)
  local size = call('ZCARD', memory)
  if size == 1 then call('PEXPIRE', memory, DAY) end -- it is new
  local over = size - most
  if over <= 0 and now % 8 > 0 then return end -- one in eight clears up, for up to 50
  local old = call('ZRANGEBYSCORE', memory, '-inf', now - MEMORY, 'LIMIT', 0, BATCH)
  if #old > 0 then call('ZREM', memory, unpack(old)) end
  if over > #old then call('ZREMRANGEBYRANK', memory, 0, over - #old - 1) end
end

local function remembers(memory, name)
  local since = call('ZSCORE', memory, name)
  return since and tonumber(since) > now - MEMORY
end
