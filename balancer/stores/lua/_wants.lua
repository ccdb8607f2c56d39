-- Stands before the scripts by which a process joins or leaves the line.

-- `wants` is a JSON list of account ids, empty for any, after the priority unless that is 0; "" leaves the line.
local function set_wants(name, owner, wants)
  if wants == '' then
    end_offer(name, owner)
    owner.wants, owner.place, owner.priority = nil, nil, nil
    call('ZREM', K.line, name)
    return
  end
  local priority, ids = wants:match('^(-?%d*)(.*)$')
  owner.priority = tonumber(priority)
  owner.wants = ids == '[]' and 'any' or cjson.decode(ids)
  owner.place = owner.place or next_place()
  stand_in_line(name, owner)
end
