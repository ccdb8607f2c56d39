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
