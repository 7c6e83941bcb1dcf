"""The lane of policies: what each comes to is written to its status. What is in force is the config lane's affair."""
