-- The line of processes that wait: how one joins or leaves it.

-- `wants` is a list of account ids, empty for any; nil leaves the line. A `priority` of 0 is nil.
local function set_wants(name, owner, wants, priority)
  if not wants then
    end_offer(name, owner)
    owner.wants, owner.place, owner.priority = nil, nil, nil
    call('ZREM', K.line, name)
    return
  end
  owner.priority, owner.wants = priority, wants[1] and wants or 'any'
  owner.place = owner.place or next_place()
  stand_in_line(name, owner)
end

-- Say what this process waits for; its place in line stays.
-- Answer  nil
local function set_wanted(wants, priority)
  local me = enter()
  set_wants(OWNER, me, wants, priority)
  write(K.owners, OWNER, me)
  return leave()
end
