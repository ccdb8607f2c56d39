-- Bring back held leases that are not known any more, even over capacity.
-- `rows` are {key, account, age in ms, "=label", "=scope", adverse, accepted, declined}.
-- Answer  the keys that have a tombstone
local function register(rows)
  mend()
  settle()
  local me = enter()
  local buried = {}
  for _, item in ipairs(rows) do
    local key, id = item[1], item[2]
    if remembers(K.tombs, key) then
      buried[#buried + 1] = key
    elseif call('HEXISTS', K.rows, key) == 0 then
      write(K.rows, key, {
        account = id, state = 'held', since = now - item[3], process = ARGV[2],
        label = optional(item[4]), scope = optional(item[5]), adverse = item[6] or nil,
        accepted = item[7] or nil, declined = item[8] or nil,
      })
      call('ZADD', K.owned, 0, key)
      call('ZADD', K.held, 0, member(id, key))
      take_in(id)
      refile(id, read(K.accounts, id))
    end
  end
  if me.forgotten then
    me.forgotten = nil
    write(K.owners, OWNER, me)
  end
  return leave(buried)
end
