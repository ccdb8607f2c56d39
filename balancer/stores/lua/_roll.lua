-- Stands in every script before the steps: asking all processes what they hold.

local GRACE = 3000 -- ms that they are given: three times what one rests that has lost its connection

-- Return how many listen.
local function ask_all()
  return call('PUBLISH', K.rows:sub(1, -5) .. 'roll', '')
end

-- Have nothing granted until then.
local function close_until(ends)
  call('HSET', K.meta, 'closed', ends)
  call('ZADD', K.agenda, ends, 'grace:')
end

-- Return what names this run of the server, and for how many ms it runs; nothing if the user may not ask.
local function server_now()
  local info = redis.pcall('INFO', 'server')
  if type(info) == 'string' then
    -- (It is counted by the wall clock: below 0 after that was set back.)
    return info:match('run_id:(%x+)'), 1000 * (info:match('uptime_in_seconds:(%d+)') or 0)
  end
end
