"""Methods that make a student sample in fewer network calls than its teacher."""
