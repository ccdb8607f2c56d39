-- Stands before the scripts that ask what has ended.

local function remembers(memory, name)
  local since = call('ZSCORE', memory, name)
  return since and tonumber(since) > now - MEMORY
end
