//! Client of the im protocol: connects, resumes, resends, and hands over each room's events in order, once.
