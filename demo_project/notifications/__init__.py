"""Notes to one person: kept in the database, shown live on every open tab."""
