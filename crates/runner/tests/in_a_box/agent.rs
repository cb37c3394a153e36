//! A scripted agent in a box, over the Agent Client Protocol.
