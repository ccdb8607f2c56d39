-- Bring back held leases that are not known any more, even over capacity.
--
-- ARGV  6 JSON list of {key, account, age in ms, "=label", "=scope", adverse}
-- Answer  the keys that have a tombstone

local me = enter(true)
local buried = {}
for _, item in ipairs(decode(ARGV[6])) do
  local key, id = item[1], item[2]
  if remembers(TOMBS, key) then
    buried[#buried + 1] = key
  elseif call('HEXISTS', ROWS, key) == 0 then
    write(ROWS, key, {
      account = id, state = 'held', since = now - item[3], process = PROCESS,
      label = optional(item[4]), scope = optional(item[5]), adverse = item[6] or nil,
    })
    call('ZADD', OWNED, 0, key)
    call('ZADD', HELD, 0, member(id, key))
    local account = read(ACCOUNTS, id)
    if account then refile(id, account) end
  end
end
if me.forgotten then
  me.forgotten = nil
  write(OWNERS, OWNER, me)
end
return leave(buried)
