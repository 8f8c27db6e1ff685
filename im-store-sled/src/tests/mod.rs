//! What only the inside can test: failing disks, damaged folders, what readers and clients see meanwhile.

mod backup;
mod device;
mod faults;
mod fixture;
mod folders;
mod layout;
mod readers;
mod upkeep;
mod wire;
