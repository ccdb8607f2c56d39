-- The line of processes that wait: how one joins or leaves it.

-- `wants` is a JSON list of account ids, empty for any; "" leaves the line. A `priority` of 0 is "".
local function set_wants(name, owner, wants, priority)
  if wants == '' then
    end_offer(name, owner)
    owner.wants, owner.place, owner.priority = nil, nil, nil
    call('ZREM', K.line, name)
    return
  end
  owner.priority = tonumber(priority)
  owner.wants = wants == '[]' and 'any' or cjson.decode(wants)
  owner.place = owner.place or next_place()
  stand_in_line(name, owner)
end

-- Say what this process waits for; its place in line stays.
--
-- ARGV  6 wants   7 priority
-- Answer  nil
local function set_wanted()
  local me = enter()
  set_wants(OWNER, me, ARGV[6], ARGV[7])
  write(K.owners, OWNER, me)
  return leave()
end
