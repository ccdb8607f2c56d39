-- Stands before the scripts by which a process joins or leaves the line.

-- `wants` is a JSON list of account ids, empty for any; "" leaves the line.
local function set_wants(name, owner, wants)
  if wants == '' then
    end_offer(name, owner)
    owner.wants, owner.place = nil, nil
    call('ZREM', K.line, name)
    return
  end
  owner.wants = wants == '[]' and 'any' or cjson.decode(wants)
  owner.place = owner.place or next_place()
  stand_in_line(name, owner)
end
