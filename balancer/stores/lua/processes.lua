-- What processes say of themselves: that they live, what they hold, and that they are connected anew.

-- Say that the owner lives.
-- Answer  {known: it was, and nothing of it was forgotten since its last Register,
--          ended: keys of its leases that others ended}
local function heartbeat()
  mend()
  settle() -- before it says so: an owner that was late has been missed by now
  if call('HEXISTS', K.owners, OWNER) == 0 then return leave({known = false}) end
  local me = enter()
  local ended = me.ended
  if ended then
    me.ended = nil
    write(K.owners, OWNER, me)
  end
  return leave({known = not me.forgotten, ended = ended})
end

-- Bring back held leases that are not known any more, even over capacity.
-- Answer  the keys that have a tombstone
local function register(rows)
  mend()
  settle()
  local me = enter()
  local buried = {}
  for _, row in ipairs(rows) do
    local key, id, known = row.key, row.account, read(K.rows, row.key)
    if remembers(K.tombs, key) then
      buried[#buried + 1] = key
    elseif known and known.orphaned and known.state == 'ambiguous' then
      known.state, known.state_since, known.ends, known.orphaned, known.adverse = 'held', nil, nil, nil, row.adverse
      write(K.rows, key, known)
      call('ZREM', K.loose, key)
      call('ZREM', K.timers, 'lease:' .. key)
      call('ZADD', K.owned, 0, key)
    elseif not known then
      write(K.rows, key, {
        account = id, state = 'held', since = now - row.age, process = ARGV[2], label = row.label, scope = row.scope,
        adverse = row.adverse, accepted = row.accepted, declined = row.declined,
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

-- Take note of a new connection: its server may have been started again, or be another one, and may not
-- know what was granted last. (A store that is empty is found out by whatever is asked of it.)
-- Answer  ""
local function greet()
  if call('EXISTS', unpack(KEYS, 1, 12)) == 12 then
    local known, server = call('HGET', K.meta, 'server'), server_now()
    if server and server ~= known then
      call('HSET', K.meta, 'server', server)
      if known then
        ask_all()
        close_until(now + GRACE)
      end
    end
  end
  return ''
end
