-- Say that the owner lives.
--
-- ARGV  none of its own
-- Answer  {1 if it was known, and nothing of it was forgotten since its last Register,
--          keys of its leases that others ended}

mend()
settle() -- before it says so: an owner that was late has been missed by now
if call('HEXISTS', K.owners, OWNER) == 0 then return leave({0, {}}) end
local me = enter()
local ended = me.ended or {}
if me.ended then
  me.ended = nil
  write(K.owners, OWNER, me)
end
return leave({me.forgotten and 0 or 1, ended})
